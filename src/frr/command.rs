//! The commands that bring lines into FRR's running configuration or out of it, in an order that FRR takes. Pure.

use std::sync::Arc;

use super::config::Line;

/// What became of a line that FRR was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Whoever knows it took it.
    Taken,
    /// No daemon that runs knows such a command.
    Unknown,
    /// A daemon said no, in these words.
    Refused(String),
}

/// One command, and the blocks that it is given in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) blocks: Arc<[String]>,
    /// Of several forms, the first that the daemon knows is the one.
    pub(super) forms: Vec<String>,
    /// What it is for: position in the lines that were asked for.
    pub(super) line: usize,
}

impl Command {
    /// What a daemon knows or does not know as a whole, such as `ip prefix-list`: entries of lists are many.
    pub(super) fn kind(&self) -> Option<String> {
        let mut words = self.forms.first().filter(|_| self.blocks.is_empty())?.split(' ');
        let (family, list) = (words.find(|word| *word != "no")?, words.next()?);
        list.ends_with("-list").then(|| format!("{family} {list}"))
    }

    /// Whether FRR's northbound takes it as part of a transaction (`CMD_ATTR_YANG`): route-maps and prefix-lists.
    pub(super) fn is_transactional(&self) -> bool {
        let outermost = self.blocks.first().or(self.forms.first());
        let text = outermost.map_or("", |text| text.strip_prefix("no ").unwrap_or(text));
        ["route-map ", "ip prefix-list ", "ipv6 prefix-list "].iter().any(|start| text.starts_with(start))
    }
}

/// Commands that give lines to FRR: policy before whoever goes by it, for a route-map that is called and not there permits all.
pub(super) fn giving(lines: &[Line]) -> Vec<Command> {
    let give = |(line, wanted): (usize, &Line)| Command {
        blocks: wanted.blocks.clone(),
        forms: vec![wanted.text.clone()],
        line,
    };
    let mut commands: Vec<Command> = lines.iter().enumerate().map(give).collect();
    commands.sort_by_key(|command| lines.get(command.line).map(rank));
    commands
}

/// Commands that take lines out of FRR: the other way round.
///
/// Neighbors, VNIs, instances, route-maps, lists. A block that goes is one command, but the unnumbered neighbors in it go
/// first, each alone: `no router bgp … vrf …` leaves their router advertisements on, and zebra 10.3 dies of that (FRR #22881).
pub(super) fn taking(lines: &[Line]) -> Vec<Command> {
    let blocks: Vec<Arc<[String]>> = lines.iter().filter(|line| line.opens_block()).map(Line::inner).collect();
    let goes_with = |line: &Line| blocks.iter().any(|block| line.blocks.starts_with(block));
    let unnumbered = |line: &Line| {
        let words: Vec<&str> = line.text.split(' ').collect();
        matches!(words.as_slice(), ["neighbor", _, "interface", ..])
    };
    let mut commands = Vec::new();
    for (line, unwanted) in lines.iter().enumerate() {
        if !goes_with(unwanted) || unnumbered(unwanted) {
            commands.push(Command { blocks: unwanted.blocks.clone(), forms: negations(&unwanted.text), line });
        }
    }
    // bgpd keeps an instance while its VRF has a VNI ("Please unconfigure l3vni").
    let turn = |line: &Line| match rank(line) {
        // The default instance stays until the others have gone.
        OTHERS if line.opens_block() && !line.text.contains(" vrf ") => 3,
        OTHERS if line.opens_block() => 2,
        OTHERS => 0,
        VRFS => 1,
        policy => 5 - policy,
    };
    commands.sort_by_key(|command| lines.get(command.line).map(turn));
    commands
}

const VRFS: u8 = 2;
const OTHERS: u8 = 3;

/// What lines of lists have in them.
const LISTS: [&str; 4] = ["prefix-list ", "access-list ", "community-list ", "as-path "];

/// Lists, what matches by them, VRFs, and all else.
fn rank(line: &Line) -> u8 {
    let outermost = line.blocks.first().unwrap_or(&line.text);
    match outermost {
        text if text.starts_with("route-map ") => 1,
        text if line.blocks.is_empty() && LISTS.iter().any(|list| text.contains(list)) => 0,
        text if text.starts_with("vrf ") => VRFS,
        _ => OTHERS,
    }
}

/// `no LINE`, and shorter forms for lines whose values FRR does not want to hear again (as frr-reload.py does it), but never so
/// short that more goes than the line: `no neighbor X timers` stands for `neighbor X timers 3 9`, `no neighbor X` does not. An entry of
/// a list has no shorter form: that would be the list.
fn negations(text: &str) -> Vec<String> {
    if let Some(positive) = text.strip_prefix("no ") {
        return vec![positive.to_owned()];
    }
    if LISTS.iter().any(|list| text.contains(list)) {
        return vec![format!("no {text}")];
    }
    const SHORTEST: usize = 3;
    let words: Vec<&str> = text.split(' ').collect();
    let lengths = (SHORTEST.min(words.len())..=words.len()).rev();
    lengths.map(|length| format!("no {}", words.iter().take(length).copied().collect::<Vec<_>>().join(" "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frr::compare::Difference;
    use crate::frr::config::Config;

    const TEXT: &str = "vrf vr.a
 vni 1
exit-vrf
router bgp 1
 neighbor dv.a interface remote-as internal
 neighbor dv.a timers 3 9
 address-family ipv4 unicast
  neighbor dv.a route-map rm_a_import in
 exit-address-family
exit
router bgp 1 vrf vr.a
 no bgp suppress-duplicates
 neighbor vd.a interface remote-as internal
exit
ip prefix-list pl_a_import_1 seq 1 permit 10.0.0.0/8
route-map rm_a_import permit 2
 match ip address prefix-list pl_a_import_1
exit
";

    fn all() -> Vec<Line> {
        Difference::between(&Config::parse(TEXT), &Config::default()).missing
    }

    fn plain(commands: &[Command]) -> Vec<String> {
        commands.iter().map(|command| [&command.blocks[..], &[command.forms[0].clone()]].concat().join(" / ")).collect()
    }

    #[test]
    fn policy_is_given_before_whoever_goes_by_it() {
        let lines = all();
        let commands = plain(&giving(&lines));
        assert_eq!(
            commands[..4],
            [
                "ip prefix-list pl_a_import_1 seq 1 permit 10.0.0.0/8",
                "route-map rm_a_import permit 2",
                "route-map rm_a_import permit 2 / match ip address prefix-list pl_a_import_1",
                "vrf vr.a / vni 1",
            ]
        );
        assert_eq!(commands.len(), lines.len());
    }

    #[test]
    fn neighbors_go_before_their_instance_and_policy_goes_last() {
        let all_but_the_instance: Vec<Line> = all().into_iter().filter(|line| line.text != "router bgp 1").collect();
        assert_eq!(
            plain(&taking(&all_but_the_instance)),
            [
                "router bgp 1 / no neighbor dv.a interface remote-as internal",
                "router bgp 1 / no neighbor dv.a timers 3 9",
                "router bgp 1 / address-family ipv4 unicast / no neighbor dv.a route-map rm_a_import in",
                "router bgp 1 vrf vr.a / no neighbor vd.a interface remote-as internal",
                "vrf vr.a / no vni 1",
                "no router bgp 1 vrf vr.a",
                "no route-map rm_a_import permit 2",
                "no ip prefix-list pl_a_import_1 seq 1 permit 10.0.0.0/8",
            ]
        );
    }

    #[test]
    fn a_line_is_negated_without_taking_more() {
        assert_eq!(negations("no bgp suppress-duplicates"), ["bgp suppress-duplicates"]);
        let forms = ["no neighbor x timers 3 9", "no neighbor x timers 3", "no neighbor x timers"];
        assert_eq!(negations("neighbor x timers 3 9"), forms);
        assert_eq!(negations("vni 1"), ["no vni 1"]);
        let entry = "ip prefix-list pl seq 5 permit 10.0.0.0/8 le 16";
        assert_eq!(negations(entry), [format!("no {entry}")], "the list stays");
    }
}
