//! Completions, manual pages, colours: what is around the commands.

use std::process::Stdio;

use crate::support::{Place, command, ended, run};

#[test]
fn completions_of_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        for (of, option) in
            [("spanctl", "on-ambiguous"), ("spanwired", "mirror-frames"), ("spanwire-helper", "poll-mode")]
        {
            let script = run(&["completions", shell, "--of", of]).code(0).stdout;
            assert!(script.contains(of) && script.contains(option), "{shell} {of}: {script}");
        }
    }
    assert!(run(&["completions", "tcsh"]).code(2).stderr.contains("bash"), "the ones there are");
    // Bash takes what it is given.
    let script = run(&["completions", "bash"]).code(0).stdout;
    let bash = std::process::Command::new("bash").args(["-nc", &script]).stderr(Stdio::piped()).output().unwrap();
    assert!(bash.status.success(), "{}", String::from_utf8_lossy(&bash.stderr));
    // Nobody reads it to the end.
    let mut child = command().args(["completions", "bash"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_manual_page_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("man");
    run(&["man", "--out", out.to_str().unwrap()]).code(0);
    let help = run(&["--help"]).code(0).stdout;
    for page in ["spanctl", "spanctl-import", "spanctl-role", "spanctl-serve", "spanwired", "spanwire-helper"] {
        let text = std::fs::read_to_string(out.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".TH") && text.contains("SYNOPSIS"), "{page}: {text}");
        assert!(!page.starts_with("spanctl-") || help.contains(page.trim_start_matches("spanctl-")));
    }
    assert!(!out.join("spanctl-help.1").exists());
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(run(&["man", "--out", file.to_str().unwrap()]).code(2).stderr.contains("cannot write manual pages"));
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let place = Place::new().with_snapshot();
    let dir = place.dir();
    let shown = |settings: &[(&str, &str)], args: &[&str]| {
        let mut command = command();
        for unset in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(unset);
        }
        command.envs(settings.iter().copied()).arg("--dir").arg(&dir).args(args);
        ended(command.output().unwrap()).code(0).stdout
    };
    let plain = shown(&[], &["show"]);
    assert!(plain.contains("ge-0/0/0") && !plain.contains('\u{1b}'), "no terminal: {plain:?}");
    let coloured = shown(&[("CLICOLOR_FORCE", "1")], &["show"]);
    assert!(coloured.contains("\u{1b}["), "asked for: {coloured:?}");
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain, "nothing else differs");
    assert_eq!(shown(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], &["show"]), plain, "NO_COLOR decides");
    for document in [&["show", "--json"][..], &["export"]] {
        assert!(!shown(&[("CLICOLOR_FORCE", "1")], document).contains('\u{1b}'), "{document:?}");
    }
}

/// A message that ends a command says what to do next.
#[test]
fn errors_say_what_to_do_next() {
    let place = Place::new();
    for (args, next) in [
        (&["show"][..], "spanctl import"),
        (&["export"], "spanctl import"),
        (&["stats"], "spanwired"),
        (&["rollback", "3"], "spanctl history"),
        (&["wait", "--generation", "1", "--timeout", "0"], "start spanwired"),
        (&["serve", "--socket", "/nonexistent/socket"], "cannot open"),
    ] {
        let ran = place.run(args);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(next), "{ran:?}");
    }
}
