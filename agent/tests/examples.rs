//! The examples of the package, by the commands that their comments name.

use std::path::Path;
use std::process::Command;

/// Runs `sluice policy test CASES --policy DIRECTORY`.
fn cases(file: &str) -> (bool, String) {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/example/policy");
    let ran = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["policy", "test", "--policy"])
        .arg(&policy)
        .arg(policy.join(file))
        .output()
        .unwrap();
    (ran.status.success(), String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned())
}

#[test]
fn the_cases_of_the_package_hold_against_its_policy() {
    for file in ["cases.toml", "ssh.toml"] {
        let (held, said) = cases(file);
        assert!(held && said.contains("cases passed"), "{file}: {said}");
    }
}

#[test]
fn a_case_that_does_not_hold_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("wrong.toml");
    let case = "[[case]]\nname = \"root for everybody\"\nprincipal = { name = \"alice\", groups = [\"ops\"] }\n\
                action = \"connect\"\nresource = \"account app/root\"\nexpect = \"permit\"\n";
    std::fs::write(&wrong, case).unwrap();
    let (held, said) = cases(&wrong.to_string_lossy());
    assert!(!held && said.contains("root for everybody"), "{said}");
}
