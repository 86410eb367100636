//! What a command may answer, and what it may not do.

use tasks::Access;

use super::*;

/// Runs a shell script as the command. The shell is the test's, not the provider's.
async fn run(script: &str) -> Result<Obtained, ProviderError> {
    let argv = ["sh", "-c", script].map(String::from).to_vec();
    let cmd = Cmd::new(argv, Duration::from_secs(20), Some(Duration::from_secs(77)));
    cmd.obtain(&wish()).await
}

fn wish() -> Wish {
    Wish {
        agent: "triage".into(),
        task: "0190a2b4-7f00-7000-8000-000000000001".parse().unwrap(),
        owner: "alice".into(),
        tool: "notes".parse().unwrap(),
        access: Access::Read,
        scopes: vec!["repo".into()],
        narrow: serde_json::Map::new(),
        ttl_seconds: 300,
    }
}

#[expect(clippy::disallowed_methods, reason = "to compare it")]
async fn check(script: &str, secret: &str, ttl_seconds: u64, handle: Option<&str>) {
    let obtained = run(script).await.unwrap();
    let obtained_secret = obtained.material.secret(None).unwrap();
    assert_eq!(obtained_secret.expose(), secret.as_bytes());
    assert_eq!(obtained.ttl_seconds, Some(ttl_seconds));
    assert_eq!(obtained.handle.as_deref(), handle);
}

async fn check_failed(script: &str, cause: &str) {
    let failed = run(script).await.unwrap_err();
    assert_eq!(failed.to_string(), cause);
}

#[tokio::test]
async fn it_answers_with_a_secret_a_life_and_a_handle() {
    check(
        r#"echo '{"secret":"s3cr3t","ttl_seconds":60,"handle":"h"}'"#,
        "s3cr3t",
        60,
        Some("h"),
    )
    .await;
}
#[tokio::test]
async fn a_life_not_told_is_the_configured_one() {
    check(r#"echo '{"secret":"s3cr3t"}'"#, "s3cr3t", 77, None).await;
}
#[tokio::test]
async fn it_reads_the_wish() {
    let script = r#"read -r wish; case "$wish" in *'"scopes":["repo"]'*'"ttl_seconds":300'*) echo '{"secret":"yes"}';; esac"#;
    check(
        &format!("{{ cat; echo; }} | {{ {script}; }}"),
        "yes",
        77,
        None,
    )
    .await;
}
#[tokio::test]
async fn it_sees_nothing_of_the_environment_but_path_and_home() {
    let script = r#"env | grep -v -e ^PATH= -e ^HOME= -e ^PWD= -e ^SHLVL= -e ^_= -e ^OLDPWD= && exit 9; echo '{"secret":"clean"}'"#;
    check(script, "clean", 77, None).await;
}
#[tokio::test]
async fn a_failure_tells_its_first_line() {
    check_failed(
        "echo no such role >&2; echo second >&2; exit 3",
        "program ended with exit status: 3: no such role",
    )
    .await;
}
#[tokio::test]
async fn a_failure_does_not_repeat_the_secret() {
    check_failed(
        r#"echo '{"secret":"hunter"}'; echo got 'hunter,' then died >&2; exit 1"#,
        "program ended with exit status: 1: got … then died",
    )
    .await;
}
#[tokio::test]
async fn a_failure_repeats_nothing_that_may_be_a_key() {
    check_failed(
        "echo bad token ghp_16C7e42F292c6912E7 >&2; exit 1",
        "program ended with exit status: 1: bad token …",
    )
    .await;
}
#[tokio::test]
async fn wrong_json_is_refused_and_not_repeated() {
    check_failed(
        r#"echo '{"secret":"s3cr3t","ttl_seconds":"s3cr3t"}'"#,
        "stdout is not the JSON asked for, at line 1 column 41",
    )
    .await;
}
#[tokio::test]
async fn an_unknown_field_is_refused() {
    check_failed(
        r#"echo '{"secret":"s","expires":1}'"#,
        "stdout is not the JSON asked for, at line 1 column 23",
    )
    .await;
}
#[tokio::test]
async fn no_answer_is_refused() {
    check_failed(
        "true",
        "stdout is not the JSON asked for, at line 1 column 0",
    )
    .await;
}
#[tokio::test]
async fn an_endless_answer_is_refused() {
    check_failed("yes", "stdout is longer than 64 KiB").await;
}
#[tokio::test]
async fn an_endless_complaint_fills_no_memory() {
    check(
        r#"yes | head -c 1000000 >&2; echo '{"secret":"s"}'"#,
        "s",
        77,
        None,
    )
    .await;
}
#[tokio::test]
async fn a_line_break_in_the_secret_is_refused() {
    check_failed(
        r#"printf '{"secret":"a\\nb"}'"#,
        "secret holds a line break or NUL",
    )
    .await;
}
#[tokio::test]
async fn no_program_is_a_failure() {
    let cmd = Cmd::new(Vec::new(), Duration::from_secs(1), None);
    assert_eq!(
        cmd.obtain(&wish()).await.unwrap_err().to_string(),
        "no program is named"
    );
}
#[tokio::test]
async fn a_slow_program_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pid");
    let script = format!(
        "sleep 600 & echo $! > {0}.tmp; mv {0}.tmp {0}; wait",
        path.display()
    );
    let argv = vec!["sh".into(), "-c".into(), script];
    let cmd = Cmd::new(argv, Duration::from_millis(500), None);
    let failed = cmd.obtain(&wish()).await.unwrap_err();
    assert_eq!(failed.to_string(), "program took too long and was killed");
    let pid = std::fs::read_to_string(&path).unwrap();
    let alive = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        // A zombie waits for its reaper only.
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    while alive() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "to compare them")]
async fn it_may_answer_with_several_secrets() {
    let script = r#"echo '{"fields":{"user":"alice","password":"s3cr3t"},"public":["user"]}'"#;
    let obtained = run(script).await.unwrap();
    let field = |name| obtained.material.secret(Some(name)).unwrap().expose();
    assert_eq!(field("user"), b"alice");
    assert_eq!(field("password"), b"s3cr3t");
    assert_eq!(obtained.material.secrets().count(), 1);
}
#[tokio::test]
async fn an_answer_that_can_be_read_in_two_ways_is_refused() {
    check_failed(
        r#"echo '{"secret":"a","fields":{"b":"c"}}'"#,
        "stdout holds `secret` beside `fields` or `public`",
    )
    .await;
    check_failed(
        r#"echo '{"ttl_seconds":1}'"#,
        "stdout holds neither `secret` nor `fields`",
    )
    .await;
    check_failed(
        r#"echo '{"fields":{"b":"c"},"public":["d"]}'"#,
        "stdout says that a field is `public` which it does not hold",
    )
    .await;
}
