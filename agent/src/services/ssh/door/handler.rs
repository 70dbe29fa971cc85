//! What russh asks about a client: who it is, and what it wants to open.
//!
//! Requests are answered within their callback, in the order in which they came (RFC 4254, section 5.4): russh remembers
//! of one request a channel whether it wants an answer, and refuses by itself what it does not know.
use std::collections::HashMap;
use std::sync::Arc;

use russh::keys::Certificate;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error, Pty, Sig};

use super::fatal::Fatal;
use super::login::{self, Known};
use super::open;
use super::progress::Progress;
use crate::app::House;
use crate::identity::DeviceGrant;
use crate::services::caller::Caller;
use crate::services::ssh::relay::{Begun, End, Link, Program, Setup, farewell};
use crate::ssh::Flows;

/// One connection.
pub(super) struct Door {
    caller: Arc<Caller>,
    house: Arc<House>,
    progress: Arc<Progress>,
    flows: Arc<Flows>,
    /// The name that the client asks for.
    asked: String,
    stage: Stage,
    /// A confirmation that is under way.
    grant: Option<DeviceGrant>,
    /// Why what was shown before is no proof.
    unsaid: Vec<String>,
    /// Session channels that nothing runs in yet.
    setups: HashMap<ChannelId, Setup>,
}

enum Stage {
    Stranger,
    Known(Known),
    Open(Arc<Link>),
    /// Logged in, and there is no session: whoever asks for something is told why.
    Failed(Arc<Fatal>),
}

impl Door {
    async fn arrived(&self, channel: ChannelId, bytes: usize) -> Result<(), Error> {
        self.flows.arrived(channel.number(), bytes).await.map_err(|_| {
            let target = &self.caller.target.name;
            tracing::warn!(
                target,
                pid = self.caller.peer.pid(),
                "a client sends more than its windows: it is let go"
            );
            Error::Inconsistent
        })
    }

    pub(super) fn new(
        caller: Arc<Caller>,
        house: Arc<House>,
        progress: Arc<Progress>,
        flows: Arc<Flows>,
    ) -> Self {
        Self {
            caller,
            house,
            progress,
            flows,
            asked: String::new(),
            stage: Stage::Stranger,
            grant: None,
            unsaid: Vec::new(),
            setups: HashMap::new(),
        }
    }

    fn accept(&mut self, user: &str, known: Known) -> Auth {
        user.clone_into(&mut self.asked);
        self.stage = Stage::Known(known);
        self.progress.known();
        Auth::Accept
    }

    /// By the login of the caller's own session, if there is one.
    fn bound(&mut self, user: &str) -> Auth {
        match login::bound(&self.caller, &self.house) {
            Some(known) => self.accept(user, known),
            None => Auth::reject(),
        }
    }

    fn refuse(&self, fatal: &Fatal) {
        super::refused(fatal, &self.caller, &self.house);
    }

    fn link(&self) -> Option<Arc<Link>> {
        match &self.stage {
            Stage::Open(link) => Some(Arc::clone(link)),
            _ => None,
        }
    }

    /// Runs something in a channel that is set up.
    async fn start(&mut self, id: ChannelId, program: Program, session: &mut Session) -> Result<(), Error> {
        let Some(setup) = self.setups.remove(&id) else { return session.channel_failure(id) };
        let link = match &self.stage {
            Stage::Open(link) => link,
            Stage::Failed(fatal) => {
                session.channel_success(id)?;
                let (words, handle) = (fatal.words(), session.handle());
                tokio::spawn(async move {
                    farewell(setup, &words, 255).await;
                    let why = words.join("; ");
                    let _ = handle.disconnect(russh::Disconnect::ByApplication, why, String::new()).await;
                });
                return Ok(());
            }
            _ => return session.channel_failure(id),
        };
        match link.begin(setup, program).await {
            // a request that waits is taken, and the channel says so: an answer that came later could be lost or come
            // behind that to a later request, since russh remembers of one alone whether it wants any
            Begun::Runs | Begun::Refused | Begun::Waits => session.channel_success(id),
            Begun::Failed => session.channel_failure(id),
        }
    }

    /// A request of a channel that is set up: what comes of it is the answer.
    async fn prepare(
        &mut self,
        id: ChannelId,
        session: &mut Session,
        request: impl AsyncFnOnce(&Link, &mut Setup) -> bool,
    ) -> Result<(), Error> {
        let done = match (&self.stage, self.setups.get_mut(&id)) {
            (Stage::Open(link), Some(setup)) => request(link, setup).await,
            (Stage::Failed(_), Some(_)) => true,
            _ => false,
        };
        if done { session.channel_success(id) } else { session.channel_failure(id) }
    }
}

impl Handler for Door {
    type Error = Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Error> {
        self.progress.greeted();
        Ok(None)
    }

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Error> {
        Ok(self.bound(user))
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Error> {
        user.clone_into(&mut self.asked);
        // a key is not what anybody is known by, unless it comes with a token
        let sign = login::bound(&self.caller, &self.house).is_some()
            || login::may_carry_token(offer.public_key, &self.house);
        Ok(if sign { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        Ok(self.bound(user))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Error> {
        if let Some(known) = login::bound(&self.caller, &self.house) {
            return Ok(self.accept(user, known));
        }
        match login::certificate(certificate, &self.caller, &self.house).await {
            None => Ok(Auth::reject()),
            Some(Ok(known)) => Ok(self.accept(user, known)),
            Some(Err(fatal)) => {
                self.refuse(&fatal);
                // said when the client asks what else it may do
                self.unsaid = fatal.words();
                Ok(Auth::reject())
            }
        }
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Error> {
        match login::token(password, &self.caller, &self.house).await {
            Ok(known) => Ok(self.accept(user, known)),
            Err(fatal) => {
                self.refuse(&fatal);
                Ok(Auth::reject())
            }
        }
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Error> {
        let say = |words: String| Auth::Partial {
            name: "Sluice".into(),
            instructions: words.into(),
            // no question: the client shows the text and answers at once
            prompts: (&[] as &[(std::borrow::Cow<'static, str>, bool)]).into(),
        };
        let answered = response.map(|_| ()).is_some();
        if !answered {
            if let Some(known) = login::bound(&self.caller, &self.house) {
                return Ok(self.accept(user, known));
            }
            return Ok(match login::ask(&self.caller, &self.house).await {
                Ok(grant) => {
                    let mut words = std::mem::take(&mut self.unsaid);
                    words.push(login::instructions(&grant, &self.house));
                    self.grant = Some(grant);
                    say(words.join("\n"))
                }
                Err(fatal) => {
                    self.refuse(&fatal);
                    say(fatal.words().join("\n"))
                }
            });
        }
        // what was said last has been read
        let Some(grant) = self.grant.take() else { return Ok(Auth::reject()) };
        match login::confirmed(grant, &self.caller, &self.house).await {
            Ok(known) => Ok(self.accept(user, known)),
            Err(fatal) => {
                self.refuse(&fatal);
                Ok(say(fatal.words().join("\n")))
            }
        }
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Error> {
        let Stage::Known(known) = std::mem::replace(&mut self.stage, Stage::Stranger) else {
            return Err(Error::NotAuthenticated);
        };
        let (flows, client) = (Arc::clone(&self.flows), session.handle());
        match open::open(&self.asked, &self.caller, &known, client, flows, &self.house).await {
            Ok(link) => {
                let lives =
                    crate::services::caller::Lives { expires_at: known.login.expires_at, bound: known.bound };
                link.watch(lives, self.progress.cutter());
                self.progress.open(&link);
                self.stage = Stage::Open(link);
            }
            Err(fatal) => {
                self.refuse(&fatal);
                self.stage = Stage::Failed(Arc::new(fatal));
            }
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        let id = channel.id();
        let setup = match &self.stage {
            Stage::Open(link) => link.open_session(channel).await,
            Stage::Failed(_) => Ok(Setup::without_target(channel, &self.flows)),
            _ => Err(ChannelOpenFailure::AdministrativelyProhibited),
        };
        match setup {
            Ok(setup) => {
                self.setups.insert(id, setup);
                reply.accept().await;
            }
            Err(why) => reply.reject(why).await,
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        originator: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        let end = End::Tcp { host: host.to_owned(), port };
        match &self.stage {
            Stage::Open(link) => link.forward(end, (originator.to_owned(), originator_port), channel, reply),
            Stage::Failed(fatal) => reply.reject(words(fatal)).await,
            _ => reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await,
        }
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        match &self.stage {
            Stage::Open(link) => {
                link.forward(End::Socket(path.to_owned()), (String::new(), 0), channel, reply);
            }
            Stage::Failed(fatal) => reply.reject(words(fatal)).await,
            _ => reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await,
        }
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Error> {
        self.arrived(channel, data.len()).await
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _: u32,
        data: &[u8],
        _: &mut Session,
    ) -> Result<(), Error> {
        self.arrived(channel, data.len()).await
    }

    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        self.flows.window()
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Error> {
        self.setups.remove(&channel);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        if let (Stage::Failed(_), Some(setup)) = (&self.stage, self.setups.get_mut(&channel)) {
            // there is only something to be told, on a terminal in raw mode
            setup.screen_for_words(term, columns, rows);
        }
        // the end of the list is written anew, and an unknown mode would read as one
        let modes: Vec<_> = modes.iter().copied().filter(|(mode, _)| *mode != Pty::TTY_OP_END).collect();
        self.prepare(channel, session, async |link, setup| {
            link.pty(setup, term, [columns, rows, width, height], &modes).await
        })
        .await
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.prepare(channel, session, async |link, setup| link.env(setup, name, value).await).await
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        single: bool,
        protocol: &str,
        cookie: &str,
        screen: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.prepare(channel, session, async |link, setup| {
            link.x11(setup, single, (protocol, cookie), screen).await
        })
        .await
    }

    async fn agent_request(&mut self, channel: ChannelId, _: &mut Session) -> Result<bool, Error> {
        Ok(match (&self.stage, self.setups.get_mut(&channel)) {
            (Stage::Open(link), Some(setup)) => link.agent(setup).await,
            _ => false,
        })
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.start(channel, Program::Shell, session).await
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        line: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        self.start(channel, Program::Exec(line.to_vec()), session).await
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.start(channel, Program::Subsystem(name.to_owned()), session).await
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        // of a channel in which something runs: the relay's own reader gets it, in its place among the keystrokes
        if let (Stage::Open(link), Some(setup)) = (&self.stage, self.setups.get_mut(&channel)) {
            link.resize(setup, [columns, rows, width, height]).await;
        }
        // nobody has to ask for an answer to this one; whoever does gets it
        session.channel_success(channel)
    }

    async fn signal(&mut self, channel: ChannelId, _: Sig, session: &mut Session) -> Result<(), Error> {
        // likewise; before something runs there is nothing to signal
        if self.setups.contains_key(&channel) {
            session.channel_failure(channel)
        } else {
            session.channel_success(channel)
        }
    }

    async fn tcpip_forward(&mut self, address: &str, port: &mut u32, _: &mut Session) -> Result<bool, Error> {
        let Some(link) = self.link() else { return Ok(false) };
        let end = End::Tcp { host: address.to_owned(), port: *port };
        match link.listen(end).await {
            Some(bound) => {
                *port = bound;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _: &mut Session,
    ) -> Result<bool, Error> {
        let Some(link) = self.link() else { return Ok(false) };
        Ok(link.stop_listening(&End::Tcp { host: address.to_owned(), port }).await)
    }

    async fn streamlocal_forward(&mut self, path: &str, _: &mut Session) -> Result<bool, Error> {
        let Some(link) = self.link() else { return Ok(false) };
        Ok(link.listen(End::Socket(path.to_owned())).await.is_some())
    }

    async fn cancel_streamlocal_forward(&mut self, path: &str, _: &mut Session) -> Result<bool, Error> {
        let Some(link) = self.link() else { return Ok(false) };
        Ok(link.stop_listening(&End::Socket(path.to_owned())).await)
    }
}

fn words(fatal: &Fatal) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: 1, reason: fatal.words().join("; ") }
}
