//! A real API server: etcd and kube-apiserver, on loopback or on a bridge of the lab.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};

use super::{Bridge, Image, Node, Spelling, artefact, bridge::HOST};

/// The API server; it ends with this value.
pub struct ApiServer {
    folder: tempfile::TempDir,
    netns: String,
    /// Where it listens.
    address: &'static str,
    /// More flags of kube-apiserver.
    flags: Vec<String>,
    etcd: Option<Child>,
    server: Option<Child>,
    controllers: Option<Child>,
}

fn program(name: &str) -> PathBuf {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(|folder| PathBuf::from(folder).join(name));
    if let Some(path) = assets.filter(|path| path.exists()) {
        return path;
    }
    match name {
        "etcd" | "openssl" => name.into(),
        "network-operator" => env!("CARGO_BIN_EXE_network-operator").into(),
        _ => artefact(&format!("k8s/{name}")),
    }
}

impl ApiServer {
    /// Starts one while a node of the lab boots beside it.
    pub fn with_node(bridge: &Bridge) -> (Self, Node) {
        std::thread::scope(|scope| {
            let server = scope.spawn(|| Self::start(bridge));
            let node = Node::of_the_lab(bridge, Image::Trixie, Spelling::Plain);
            (server.join().unwrap(), node)
        })
    }

    /// Starts one in the namespace of a bridge, where it is the only one, so that its ports are fixed.
    pub fn start(bridge: &Bridge) -> Self {
        Self::at(bridge, HOST)
    }

    /// The same, on another address of the bridge.
    pub fn at(bridge: &Bridge, address: &'static str) -> Self {
        let mut server = Self::prepare(bridge);
        server.address = address;
        server.start_again();
        server
    }

    /// Starts one that writes down what is asked for, by an audit policy.
    pub fn audited(bridge: &Bridge, policy: &str) -> Self {
        let mut server = Self::prepare(bridge);
        fs::write(server.path("audit.yaml"), policy).unwrap();
        let [policy, log] = ["audit.yaml", "audit.log"].map(|name| server.path(name));
        server.flags = vec![format!("--audit-policy-file={policy}"), format!("--audit-log-path={log}")];
        server.start_again();
        server
    }

    /// What was asked for, a line of JSON for each request.
    pub fn audit(&self) -> String {
        fs::read_to_string(self.path("audit.log")).unwrap_or_default()
    }

    fn prepare(bridge: &Bridge) -> Self {
        let folder = tempfile::Builder::new().prefix("lab-").tempdir_in("/dev/shm").unwrap();
        fs::write(
            folder.path().join("tokens.csv"),
            "admin,admin,admin,system:masters\nagent,agent,agent\nrouter,router,router\nwebhook,webhook,webhook\n",
        )
        .unwrap();
        let netns = bridge.netns().to_owned();
        let server =
            Self { folder, netns, address: HOST, flags: Vec::new(), etcd: None, server: None, controllers: None };
        server.run("openssl", &["genrsa", "-out", &server.path("sa.key"), "2048"]);
        server
    }

    /// Starts etcd and the server on the data that is there.
    pub fn start_again(&mut self) {
        let data = self.path("etcd");
        self.etcd = Some(self.spawn("etcd", &["--data-dir", &data, "--unsafe-no-fsync", "--log-level", "error"]));
        let [certs, key, tokens] = [self.path("certs"), self.path("sa.key"), self.path("tokens.csv")];
        let address = self.address;
        let mut flags = vec![
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--cert-dir={certs}"),
            format!("--bind-address={address}"),
            format!("--advertise-address={address}"),
            "--secure-port=6443".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
            format!("--token-auth-file={tokens}"),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=198.18.0.0/24".to_owned(),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
        ];
        flags.extend(self.flags.iter().cloned());
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.server = Some(self.spawn("kube-apiserver", &flags));
        let begin = Instant::now();
        while fs::metadata(self.path("certs/apiserver.crt")).map_or(0, |file| file.len()) == 0 {
            assert!(begin.elapsed() < Duration::from_secs(60), "no certificate:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        fs::write(self.path("kubeconfig"), self.kubeconfig("admin")).unwrap();
        fs::write(self.path("webhook.kubeconfig"), self.kubeconfig("webhook")).unwrap();
        while !self.try_kubectl(&["get", "--raw", "/readyz"], "").is_ok_and(|answer| answer == "ok") {
            assert!(begin.elapsed() < Duration::from_secs(90), "no API server:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Starts controllers, by their names in kube-controller-manager.
    pub fn start_controllers(&mut self, names: &str) {
        let kubeconfig = self.path("kubeconfig");
        self.controllers = Some(self.spawn(
            "kube-controller-manager",
            &[
                &format!("--kubeconfig={kubeconfig}"),
                &format!("--controllers={names}"),
                "--node-monitor-period=2s",
                "--node-monitor-grace-period=20s",
                "--leader-elect=false",
                "--port=0",
                "--secure-port=0",
            ],
        ));
    }

    /// Stops all; the data stays.
    pub fn stop(&mut self) {
        for mut child in [self.controllers.take(), self.server.take(), self.etcd.take()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether it has ValidatingAdmissionPolicies: Kubernetes 1.30 and later.
    pub fn knows_policies(&self) -> bool {
        let kinds = self.kubectl(&["api-resources", "--api-group=admissionregistration.k8s.io", "-o=name"], "");
        kinds.contains("validatingadmissionpolicies.")
    }

    /// By whom a client knows the server, in PEM: its certificate brings its own authority along.
    pub fn authority(&self) -> String {
        fs::read_to_string(self.path("certs/apiserver.crt")).unwrap()
    }

    /// A client configuration for whoever has the token.
    pub fn kubeconfig(&self, token: &str) -> String {
        let (authority, address) = (BASE64_STANDARD.encode(self.authority()), self.address);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\nclusters:\n- name: lab\n  cluster: {{server: 'https://{address}:6443', certificate-authority-data: {authority}}}\nusers:\n- name: lab\n  user: {{token: {token}}}\ncontexts:\n- name: lab\n  context: {{cluster: lab, user: lab}}\n"
        )
    }

    /// kubectl with a text on its standard input; it must succeed.
    pub fn kubectl(&self, args: &[&str], input: &str) -> String {
        self.try_kubectl(args, input).unwrap_or_else(|error| panic!("kubectl {args:?}: {error}"))
    }

    /// kubectl, with what it said where it fails.
    pub fn try_kubectl(&self, args: &[&str], input: &str) -> Result<String, String> {
        let file = self.path(&super::unique("input"));
        fs::write(&file, input).unwrap();
        let output = self
            .command("kubectl")
            .arg("--kubeconfig")
            .arg(self.path("kubeconfig"))
            .arg("--cache-dir")
            .arg(self.path("kubectl-cache"))
            .args(args)
            .stdin(fs::File::open(&file).unwrap())
            .output()
            .unwrap();
        let _ = fs::remove_file(file);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Runs shell commands in a folder, where an administrator has kubectl and kustomize, for that long at most. Gives what they printed, and
    /// what they said, too, where one of them fails.
    pub fn shell(&self, folder: &Path, limit: Duration, script: &str) -> Result<String, String> {
        let programs = [program("kubectl"), artefact("kustomize/usr/bin/kustomize")];
        let programs = programs.iter().map(|program| program.parent().unwrap().to_owned());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(programs.chain(std::env::split_paths(&path))).unwrap();
        let limit = limit.as_secs().to_string();
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.netns, "timeout", &limit])
            .args(["bash", "-exo", "pipefail", "-c", script]);
        command.current_dir(folder).env("PATH", path).env("HOME", folder).env("KUBECONFIG", self.path("kubeconfig"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let [printed, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if output.status.success() { Ok(printed) } else { Err(format!("{}:\n{printed}\n{said}", output.status)) }
    }

    /// How a client that has the token reaches the server, from the namespace where it listens.
    pub fn config(&self, token: &str) -> kube::Config {
        let certificates = self.authority();
        let authority = certificates.split("-----").filter(|part| part.contains('\n') && part.len() > 100);
        let authority = authority.map(|text| BASE64_STANDARD.decode(text.replace('\n', "")).unwrap()).collect();
        let mut config = kube::Config::new(format!("https://{}:6443", self.address).parse().unwrap());
        config.root_cert = Some(authority);
        config.auth_info.token = Some(token.to_owned().into());
        config
    }

    /// Does something as a client that has the token, in the namespace where the server listens.
    pub fn as_client<T: Send>(&self, token: &str, work: impl AsyncFnOnce(kube::Client) -> T + Send) -> T {
        let namespace = format!("/var/run/netns/{}", self.netns);
        let enter = move || {
            nix::sched::setns(fs::File::open(&namespace).unwrap(), nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        };
        let config = self.config(token);
        let run = move || {
            enter();
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(2).on_thread_start(enter).enable_all().build().unwrap();
            runtime.block_on(async { work(kube::Client::try_from(config).unwrap()).await })
        };
        std::thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    /// Starts the webhook on port 9443 of the server's address, with an operator file, a template and a certificate of this folder.
    pub fn start_webhook(&self, folder: &Path) -> Child {
        let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let (config, template, certificate, key) =
            (file("config.yaml"), file("frr.conf.tpl"), file("tls.crt"), file("tls.key"));
        let listen = format!("{}:9443", self.address);
        let mut command = self.command("network-operator");
        command.args(["webhook", "--config", &config, "--template", &template, "--listen", &listen]);
        command.args(["--tls-cert", &certificate, "--tls-key", &key]);
        command.env("KUBECONFIG", self.path("webhook.kubeconfig"));
        self.start_program("network-operator", command)
    }

    /// Starts an agent of `--only-attach-bpf` on a port in the server's namespace, with a bpffs of its own, and operator file and health
    /// file of this folder.
    pub fn start_router(&self, node: &str, folder: &Path) -> Child {
        let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let (config, health, program) = (file("config.yaml"), file("health.yaml"), program("network-operator"));
        let script = format!(
            "ip link add port type veth peer name cable
             ip link set port up
             ip link set cable up
             mount -t bpf bpf /sys/fs/bpf
             exec {program} run --only-attach-bpf --debounce 0s --listen none --node-name {node} \
               --config {config} --health-file {health}",
            program = program.display(),
        );
        fs::write(self.path("router.kubeconfig"), self.kubeconfig("router")).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns, "sh", "-ec", &script]);
        command.env("KUBECONFIG", self.path("router.kubeconfig"));
        self.start_program("router", command)
    }

    /// What a program that was started here has said.
    pub fn log_of(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    fn log(&self) -> String {
        ["etcd", "kube-apiserver", "kube-controller-manager"].map(|name| self.log_of(name)).concat()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    /// A program, in the namespace where the server listens.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns]).arg(program(name));
        command
    }

    fn run(&self, name: &str, args: &[&str]) {
        let output = Command::new(name).args(args).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn spawn(&self, name: &str, args: &[&str]) -> Child {
        let mut command = self.command(name);
        command.args(args);
        self.start_program(name, command)
    }

    /// It goes with the test, and its words go to a file of that name.
    fn start_program(&self, name: &str, mut command: Command) -> Child {
        let log = fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        // SAFETY: one async-signal-safe call between fork and exec.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?));
        }
        super::spawn(command).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}
