//! Secrets in lines of configuration: they stay out of the log, of status, events and the Node. Pure.

use std::borrow::Cow;

/// Words behind which FRR's commands have a secret: `neighbor … password`, `enable password 8 …`, `key-string`, `ip ospf authentication-key`,
/// `ip ospf message-digest-key 1 md5 …`, `isis password md5 …`, `area-password`, `ip rip authentication string …`.
const BEFORE: [&str; 7] =
    ["password", "key-string", "authentication-key", "md5", "area-password", "domain-password", "string"];
/// What stands for it.
const HIDDEN: &str = "<hidden>";

/// The text without its secrets: in each line, all that is behind such a word.
pub(super) fn hidden(text: &str) -> Cow<'_, str> {
    if text.split_whitespace().any(|word| BEFORE.contains(&word)) {
        Cow::Owned(text.lines().map(of_line).collect::<Vec<_>>().join("\n"))
    } else {
        Cow::Borrowed(text)
    }
}

fn of_line(line: &str) -> String {
    let mut end = 0;
    for word in line.split_inclusive(char::is_whitespace) {
        end += word.len();
        let (said, rest) = line.split_at(end);
        if BEFORE.contains(&word.trim_end()) && !rest.trim().is_empty() {
            return format!("{said}{HIDDEN}");
        }
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_the_word_for_a_secret_is_hidden_and_nothing_else() {
        for (line, shown) in [
            (" neighbor 192.0.2.1 password s3cret", " neighbor 192.0.2.1 password <hidden>"),
            ("enable password 8 s3cret", "enable password <hidden>"),
            ("ip ospf message-digest-key 1 md5 s3cret more", "ip ospf message-digest-key 1 md5 <hidden>"),
            ("neighbor 192.0.2.1 password", "neighbor 192.0.2.1 password"),
            ("neighbor 192.0.2.1 description passwords", "neighbor 192.0.2.1 description passwords"),
            ("a password b\nkey-string c\nd", "a password <hidden>\nkey-string <hidden>\nd"),
            ("", ""),
        ] {
            assert_eq!(hidden(line), shown);
            assert_eq!(hidden(&hidden(line)), shown, "twice is once");
        }
    }
}
