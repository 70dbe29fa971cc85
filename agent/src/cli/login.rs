//! `sluice login`, `logout`, `whoami`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;

use clap::Args;
use sluice_api::admin::{self, request::Request, response::Response};

use super::client::{Client, odd};
use super::terminal::{DIM, GOOD, HEAD, print, safe, say, time};
use super::{Failure, person, print_json};

/// Proves once who you are. The login holds for this terminal session (also under sudo from it) until it ends by
/// `sluice logout`, by its lifetime, or with the terminal.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  sluice login\n  sluice login --browser\n  sluice login --token-file /run/ci/token"
)]
pub(super) struct Login {
    /// Open a browser on this machine instead of confirming a code on another one.
    #[arg(long, conflicts_with = "token_file")]
    browser: bool,
    /// A token of the provider, for machines; `-` reads it from stdin.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Ends the login; sessions that run under it end, too.
#[derive(Args)]
pub(super) struct Logout {
    /// Every login of yours on this host.
    #[arg(long)]
    everywhere: bool,
}

pub(super) fn login(mut client: Client, command: &Login, json: bool) -> Result<(), Failure> {
    let answer = if let Some(file) = &command.token_file {
        let token = read_token(file)?;
        client.ask(Request::Login(admin::Login { token, ..Default::default() }))?
    } else if command.browser {
        browser(&mut client)?
    } else {
        let prompt = client.ask(Request::Login(admin::Login::default()))?;
        let Response::LoginPrompt(prompt) = prompt else { return Err(odd()) };
        say(&format!(
            "Open {HEAD}{}{HEAD:#}\nand confirm the code {HEAD}{}{HEAD:#}",
            safe(&prompt.url),
            safe(&prompt.user_code)
        ));
        if prompt.complete_url != prompt.url {
            say(&format!("{DIM}or open {}{DIM:#}", safe(&prompt.complete_url)));
        }
        say(&format!("{DIM}Waiting, for {} minutes at most …{DIM:#}", prompt.expires_in_s.div_ceil(60)));
        client.wait_long()?;
        client.next()?.ok_or_else(odd)?
    };
    let Response::Identity(identity) = answer else { return Err(odd()) };
    if json {
        return print_json(&identity);
    }
    say(&format!(
        "{GOOD}Logged in{GOOD:#} as {HEAD}{}{HEAD:#} until {}; bound to {}.",
        safe(&person(identity.principal.as_ref())),
        time(identity.expires_at.saturating_mul(1_000_000)),
        safe(&identity.bound_to)
    ));
    Ok(())
}

fn read_token(file: &std::path::Path) -> Result<String, Failure> {
    let mut token = String::new();
    let outcome = if file.as_os_str() == "-" {
        std::io::stdin().take(64 << 10).read_to_string(&mut token)
    } else {
        std::fs::File::open(file).and_then(|f| f.take(64 << 10).read_to_string(&mut token))
    };
    outcome.map_err(|e| Failure::Failed(format!("reading the token from {} failed: {e}", file.display())))?;
    Ok(token.trim().to_owned())
}

/// RFC 8252: listen on loopback, send the browser away, take what it comes back with.
fn browser(client: &mut Client) -> Result<Response, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let redirect_uri = format!("http://127.0.0.1:{}/callback", listener.local_addr()?.port());
    let prompt = client.ask(Request::Login(admin::Login { redirect_uri, ..Default::default() }))?;
    client.wait_long()?;
    let Response::LoginPrompt(prompt) = prompt else { return Err(odd()) };
    say(&format!("Open this in a browser on this machine:\n{HEAD}{}{HEAD:#}", safe(&prompt.url)));
    let opened = std::process::Command::new("xdg-open")
        .arg(&prompt.url)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    if opened.is_ok() {
        say(&format!("{DIM}(a browser should have opened){DIM:#}"));
    }
    loop {
        let (stream, _) = listener.accept()?;
        let mut reader = BufReader::new(stream.try_clone()?).take(16 << 10);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut stream = stream;
        let Some((code, state)) = callback(&line) else {
            // a browser also asks for a favicon
            let _ =
                stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            continue;
        };
        let page = "You may close this window and go back to the terminal.";
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
            page.len()
        );
        return client.ask(Request::LoginCode(admin::LoginCode { code, state }));
    }
}

/// Code and state out of `GET /callback?code=…&state=… HTTP/1.1`.
fn callback(line: &str) -> Option<(String, String)> {
    let path = line.strip_prefix("GET ")?.split(' ').next()?;
    let url = reqwest::Url::parse("http://127.0.0.1").ok()?.join(path).ok()?;
    let find = |name: &str| url.query_pairs().find(|(n, _)| n == name).map(|(_, v)| v.into_owned());
    (url.path() == "/callback").then_some((find("code").unwrap_or_default(), find("state")?))
}

pub(super) fn logout(mut client: Client, command: &Logout) -> Result<(), Failure> {
    match client.ask(Request::Logout(admin::Logout { everywhere: command.everywhere }))? {
        Response::Done(done) => say(&safe(&done.message)),
        _ => return Err(odd()),
    }
    Ok(())
}

pub(super) fn whoami(mut client: Client, json: bool) -> Result<(), Failure> {
    let Response::Identity(identity) = client.ask(Request::Whoami(admin::Whoami {}))? else {
        return Err(odd());
    };
    if json {
        return print_json(&identity);
    }
    let principal = identity.principal.unwrap_or_default();
    Ok(print(&format!(
        "{HEAD}{}{HEAD:#} {}\n  subject  {} at {}\n  groups   {}\n  until    {}\n  bound to {}\n",
        safe(&principal.name),
        safe(&principal.email),
        safe(&principal.subject),
        safe(&principal.issuer),
        safe(&principal.groups.join(", ")),
        time(identity.expires_at.saturating_mul(1_000_000)),
        safe(&identity.bound_to)
    ))?)
}

#[cfg(test)]
mod tests {
    use super::callback;

    #[test]
    fn callbacks_are_read() {
        let found = callback("GET /callback?code=a%2Fb&state=s&iss=x HTTP/1.1\r\n");
        assert_eq!(found, Some(("a/b".into(), "s".into())));
        assert_eq!(callback("GET /favicon.ico HTTP/1.1"), None);
        assert_eq!(callback("POST /callback?code=a&state=s HTTP/1.1"), None);
        assert_eq!(callback("GET /callback?code=a HTTP/1.1"), None);
    }
}
