//! Sessions of this host's own servers: followed from the proxy's word on, told of until nobody of them is left.

use std::net::SocketAddr;

use sluice_api::handover::{Executions, Follow, Followed, Run, Settle, Settled, from_loader};

use super::Loader;
use crate::lineage;

/// Records that are taken from the ring before others have their turn.
const RECORDS: usize = 256;

impl Loader {
    /// Which processes serve this connection? The proxy's word is believed in so far: it can follow its own connections
    /// to servers, and nobody's else, since both ends have to be the ends of one.
    pub(super) fn follow(&mut self, asked: &Follow) {
        let ends = |text: &str| text.parse::<SocketAddr>().ok();
        let outcome = match (lineage::session(&asked.session), ends(&asked.target), ends(&asked.proxy)) {
            (Some(session), Some(target), Some(proxy)) => {
                self.guard.lineage().follow(session, target, proxy, asked.judged)
            }
            _ => Err("the proxy asked for no connection".to_owned()),
        };
        let followed = match outcome {
            Ok(processes) => Followed { request: asked.request, processes, absent: String::new() },
            Err(absent) => Followed { request: asked.request, processes: 0, absent },
        };
        self.say(from_loader::Message::Followed(followed), Vec::new());
    }

    pub(super) fn executions(&mut self) {
        self.guard.lineage().read(RECORDS);
        self.tell_executions();
    }

    /// Programs wait for the proxy's word. Without a proxy there is nobody who could say yes.
    pub(super) fn ask_for_programs(&mut self) {
        let Some(hold) = self.guard.lineage().hold() else { return };
        let asked = hold.asked();
        let ready = self.proxy.as_ref().is_some_and(|proxy| proxy.ready);
        for one in asked {
            if !ready {
                if let Some(hold) = self.guard.lineage().hold() {
                    hold.decided(one.request, false);
                }
                continue;
            }
            let run = Run {
                request: one.request,
                session: lineage::text(one.session),
                pid: one.pid,
                path: one.path,
            };
            self.say(from_loader::Message::Run(run), Vec::new());
        }
    }

    pub(super) fn tell_executions(&mut self) {
        let Some(proxy) = self.proxy.as_mut().filter(|proxy| proxy.ready) else { return };
        while let Some((first, executions)) = self.guard.lineage().queue().batch() {
            let message = from_loader::Message::Executions(Executions { first, executions });
            if !proxy.send(message, Vec::new()) {
                proxy.kill();
                return;
            }
        }
    }

    pub(super) fn settle(&mut self, asked: &Settle) {
        let rest = match lineage::session(&asked.session) {
            Some(session) => self.guard.lineage().settle(session),
            None => return,
        };
        // the answer stands behind what it is about
        self.tell_executions();
        let settled = Settled {
            request: asked.request,
            remaining: rest.remaining,
            lost_records: rest.lost.records,
            lost_forks: rest.lost.forks,
        };
        self.say(from_loader::Message::Settled(settled), Vec::new());
    }
}
