//! Calls that wait, while people are asked about them.

use std::time::Duration;

use pingora_core::protocols::http::ServerSession;
use tasks::Question;
use tokio::time::sleep;

use crate::Way;
use crate::body::Reader;

/// How many calls are held at once; one beyond is refused, and made again once its approval is granted.
pub(crate) const HELD: usize = 256;

/// How often it is looked whether an HTTP/1 agent is still there. Reading would tell, and would take what it sends next.
const LOOK: Duration = Duration::from_millis(100);

/// A connection that neither end has closed, as Linux tells it (`TCP_ESTABLISHED`).
const ESTABLISHED: u8 = 1;

impl Way {
    /// Waits for an answer as long as calls are held. Whether there is one, and the agent is still there to make use of it.
    pub(crate) async fn hold(&self, question: &Question, agent: &mut Reader<'_>) -> bool {
        let patience = self.approvals.hold();
        if patience.is_zero() {
            return false;
        }
        let Ok(_place) = self.held.try_acquire() else {
            return false;
        };
        tokio::select! {
            biased;
            () = agent.gone() => false,
            () = self.approvals.answered(&question.id) => agent.is_there().await,
            () = sleep(patience) => false,
        }
    }
}

impl Reader<'_> {
    /// Waits until the agent is gone. Where that can't be known it is gone at once: nothing is spent for nobody.
    async fn gone(&mut self) {
        if let ServerSession::H2(http2) = &mut *self.session.downstream_session {
            // It ends with the stream's reset, or with the connection; how is of no interest.
            http2.idle().await.ok();
            return;
        }
        while self.is_connected() {
            sleep(LOOK).await;
        }
    }

    async fn is_there(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.gone() => false,
            () = std::future::ready(()) => true,
        }
    }

    /// An agent that has closed its half of the connection counts as gone.
    fn is_connected(&self) -> bool {
        let digest = self.session.digest();
        let socket = digest.and_then(|digest| digest.socket_digest.as_ref());
        let info = socket.and_then(|socket| socket.tcp_info());
        info.is_some_and(|info| info.tcpi_state == ESTABLISHED)
    }
}
