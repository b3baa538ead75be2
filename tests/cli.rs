//! The command line: help with examples, exit codes, errors with their cure, manual pages, completions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails must stop")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn call(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_network-operator"));
    command.args(args).env_clear().env("HOME", "/nonexistent");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The name of each subcommand, as the help lists them.
fn subcommands() -> Vec<String> {
    let help = text(&call(&["--help"]).stdout);
    let listed = help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| line.starts_with("  "));
    let names = listed.filter(|line| !line.starts_with("   ")).map(|line| line.split_whitespace().next().unwrap());
    let names: Vec<String> = names.filter(|name| *name != "help").map(str::to_owned).collect();
    assert!(names.len() > 9 && names.contains(&"run".to_owned()), "{names:?}");
    names
}

#[test]
fn help_of_every_subcommand_has_an_example() {
    let names = subcommands();
    let commands = names.iter().map(|name| vec![name.as_str(), "--help"]).chain([vec!["--help"]]);
    for command in commands {
        let output = call(&command);
        assert_eq!(output.status.code(), Some(0));
        let help = text(&output.stdout);
        assert!(help.contains("Example") && help.contains("  network-operator "), "{command:?}: {help}");
    }
}

/// Flags of a subcommand, as its help lists them.
fn flags(subcommand: &str) -> Vec<String> {
    let help = text(&call(&[subcommand, "--help"]).stdout);
    let options = help.split("Options:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let flags =
        options.lines().filter_map(|line| line.trim_start().split_once("--").filter(|(short, _)| short.len() < 5));
    flags.map(|(_, rest)| format!("--{}", rest.split([' ', ',']).next().unwrap())).collect()
}

#[test]
fn each_flag_is_in_the_docs_with_its_variable_and_its_default() {
    let page = include_str!("../docs/configuration.md");
    let mut count = 0;
    for name in subcommands() {
        let heading = format!("## `network-operator {name}`\n");
        let part = page.split_once(&heading).map_or("", |(_, rest)| rest.split("\n##").next().unwrap());
        assert!(!part.is_empty(), "docs/configuration.md has nothing of {name}");
        let help = text(&call(&[name.as_str(), "--help"]).stdout);
        let options = help.split("Options:\n").nth(1).unwrap().split("\n\n").next().unwrap();
        // It is wrapped.
        let options = options.split_whitespace().collect::<Vec<_>>().join(" ");
        let flags = flags(&name);
        // The last one is --help.
        for (flag, next) in flags.iter().zip(flags.iter().skip(1)) {
            count += 1;
            let (_, told) = options.split_once(&format!("{flag} ")).unwrap();
            let told = told.split(&format!(" {next} ")).next().unwrap();
            let forms = ["`", " "].map(|end| format!("| `{flag}{end}"));
            let row = part.lines().find(|row| forms.iter().any(|form| row.starts_with(form))).unwrap_or_default();
            assert!(!row.is_empty(), "docs/configuration.md has no {flag} of {name}");
            for (begin, end) in [("[env: ", '='), ("[default: ", ']')] {
                let Some((_, rest)) = told.split_once(begin) else { continue };
                let value = rest.split(end).next().unwrap();
                assert!(row.contains(&format!("`{value}")), "{name} {flag}: {begin}{value}, and not {row}");
            }
        }
    }
    assert!(count > 45, "{count}");
}

/// The text of a page without its roff: what a reader sees.
fn shown(page: &str) -> String {
    page.replace("\\fB", "").replace("\\fI", "").replace("\\fR", "").replace("\\-", "-").replace("\\&", "")
}

/// What is wrong with a manual page: requests that nobody knows, sections that are missing, empty or twice, no title, blocks left open.
fn faults(page: &str, sections: &[&str]) -> Vec<String> {
    let known = [".TH", ".SH", ".PP", ".TP", ".br", ".RS", ".RE", ".IP", ".nf", ".fi", ".ie", ".el"];
    let mut faults = Vec::new();
    let lines: Vec<&str> = page.lines().collect();
    let requests = lines.iter().filter(|line| line.starts_with(['.', '\'']));
    let unknown = requests.clone().filter(|line| !known.contains(&line.split(' ').next().unwrap()));
    faults.extend(unknown.map(|line| format!("unknown request {line}")));
    let count = |request: &str| requests.clone().filter(|line| line.split(' ').next() == Some(request)).count();
    let pairs = [(".nf", ".fi"), (".RS", ".RE")];
    faults.extend(
        pairs
            .iter()
            .filter(|(open, close)| count(open) != count(close))
            .map(|(open, _)| format!("{open} is left open")),
    );
    if count(".TH") != 1 {
        faults.push("not one title".to_owned());
    }
    for section in sections {
        let heading = format!(".SH {section}");
        let places: Vec<usize> = (0..lines.len()).filter(|at| lines[*at] == heading).collect();
        let text = places
            .first()
            .and_then(|at| lines[at + 1..].iter().find(|line| !line.starts_with(".nf") && !line.starts_with(".TP")));
        if places.len() != 1 || text.is_none_or(|line| line.starts_with(".SH") || line.trim().is_empty()) {
            faults.push(format!("not one {section} with a text"));
        }
    }
    faults
}

const SECTIONS: [&str; 5] = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES"];

#[test]
fn each_subcommand_has_a_manual_page_with_all_of_its_flags() {
    let folder = std::env::temp_dir().join(format!("network-operator-man-{}", std::process::id()));
    let output = call(&["man", "--out", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let names = subcommands();
    for name in &names {
        let page = page(&format!("network-operator-{name}.8"));
        assert_eq!(faults(&page, &SECTIONS), [""; 0], "{name}: {page}");
        let shown = shown(&page);
        assert!(shown.contains(&format!("network-operator-{name} - ")), "{name}: {page}");
        let listed: Vec<String> = flags(name);
        assert!(listed.contains(&"--help".to_owned()), "{listed:?}");
        for flag in listed {
            let header = |line: &str| line.split([' ', ',']).any(|word| word == flag);
            let lines: Vec<&str> = shown.lines().collect();
            assert!(lines.windows(2).any(|pair| pair[0] == ".TP" && header(pair[1])), "{name} {flag}: {page}");
        }
    }
    assert!(flags("run").len() > 15 && flags("run").contains(&"--debounce".to_owned()));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), names.len() + 1);
    let main = page("network-operator.8");
    assert_eq!(main, text(&call(&["man"]).stdout), "without --out, the main page");
    assert_eq!(faults(&main, &SECTIONS), [""; 0], "{main}");
    assert!(names.iter().all(|name| shown(&main).contains(&format!("network-operator-{name}(8)"))), "{main}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_judge_of_manual_pages_finds_what_is_wrong_with_one() {
    let page = text(&call(&["man"]).stdout);
    assert_eq!(faults(&page, &SECTIONS), [""; 0]);
    for bad in [
        page.replacen(".TH", ".XX", 1),
        page.replacen(".fi", "", 1),
        page.replacen(".SH EXAMPLES", ".SH EXTRA", 1),
        page.replacen(".SH NAME\n", ".SH NAME\n.SH NAME\n", 1),
    ] {
        assert!(bad != page && faults(&bad, &SECTIONS) != [""; 0], "{bad}");
    }
}

#[test]
fn a_folder_for_manual_pages_that_cannot_be_made_is_named() {
    let output = call(&["man", "--out", "/proc/self/man8"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/proc/self/man8"), "{}", text(&output.stderr));
}

#[test]
fn bash_takes_its_completions_and_completes_subcommands_and_flags() {
    let script = text(&call(&["completions", "bash"]).stdout);
    let bash = |ends: &str| {
        let mut child = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(format!("{script}\n{ends}").as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let file = std::env::temp_dir().join(format!("network-operator-completions-{}", std::process::id()));
    for (text, good) in [(script.clone(), true), (script.replacen("esac", "", 1), false)] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(Command::new("bash").arg("-n").arg(&file).output().unwrap().status.success(), good);
    }
    std::fs::remove_file(&file).unwrap();
    // As readline calls it: the words of the line, the place of the cursor, the word there and the one before.
    let completes = |words: &[&str]| {
        let [.., before, last] = words else { unreachable!() };
        let (line, place) = (words.join(" "), words.len() - 1);
        let ends = format!(
            "COMP_WORDS=({line}); COMP_CWORD={place}\nby=$(complete -p network-operator); by=${{by##*-F }}; by=${{by%% *}}\n\
             $by network-operator {last} {before}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        );
        text(&bash(&ends).stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(completes(&["network-operator", "va"]), ["validate"]);
    for name in subcommands() {
        assert_eq!(completes(&["network-operator", &name, "--hel"]), ["--help"], "{name}");
    }
    assert_eq!(completes(&["network-operator", "run", "--deb"]), ["--debounce"]);
    assert_eq!(completes(&["network-operator", "plan", "--output", "j"]), ["json"]);
}

#[test]
fn completions_of_each_shell_name_each_subcommand_and_a_shell_that_nobody_knows_is_refused() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = call(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = text(&output.stdout);
        for name in subcommands() {
            // zsh: `'run:Keeps this node as the objects say'`; the others have it as a word.
            let words = script.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            assert!(words.clone().any(|word| word == name), "{shell} does not know {name}");
            assert!(shell != "zsh" || script.contains(&format!("\n'{name}:")), "zsh does not describe {name}");
        }
    }
    let output = call(&["completions", "tcsh"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("zsh"));
}

#[test]
fn run_without_a_way_to_objects_says_what_to_give() {
    let output = call(&["run", "--node-name", "n"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("KUBECONFIG") && error.contains("--manifests DIR"), "{error}");
}

#[test]
fn status_without_an_api_server_says_what_to_set() {
    let output = call(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("KUBECONFIG"), "{error}");
}

#[test]
fn a_wrong_argument_is_named_with_its_form() {
    for (args, words) in [
        (&["run", "--debounce", "soon"][..], &["--debounce", "soon", "30s"][..]),
        (&["run", "--node-name", "a b"], &["--node-name", "a b", "letters"]),
        (&["run", "--listen", "9342"], &["--listen", "9342", "127.0.0.1:9342"]),
        (&["plan", "--output", "xml"], &["--output", "xml", "json"]),
        (&["render", "-f", "x"], &["--config", "--template", "--underlay-ip", "--node-name"]),
    ] {
        let output = call(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let error = text(&output.stderr);
        assert!(words.iter().all(|word| error.contains(word)), "{args:?}: {error}");
    }
}

#[test]
fn plan_without_its_files_names_them() {
    let output = call(&["plan", "--node-name", "n", "--config", "/nonexistent/config.yaml", "-f", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("/nonexistent/config.yaml") && error.contains("OPERATOR_CONFIG"), "{error}");
}
