//! A backend that speaks HTTP/2 frame by frame, also what no library would say.

use super::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// What a backend does when a request's head is there.
#[derive(Clone, Copy, Debug)]
enum Say {
    /// Answers 200 with this body, whole.
    Whole(&'static [u8]),
    /// Answers 200 with this body, and not to its end.
    Begin(&'static [u8]),
    /// Resets the stream for this reason.
    Reset(u32),
    /// Says that the last request that it has taken up is so many before this one.
    Leave(u32),
    /// Answers with so many bytes, each in a frame with 255 bytes of padding.
    Padded(usize),
    /// Closes the connection.
    Close,
}

/// A backend, and what it has seen.
struct Backend {
    peer: Peer,
    connections: Rc<Cell<usize>>,
    requests: Rc<Cell<usize>>,
}

/// One connection of a backend.
struct Talk {
    stream: TcpStream,
    /// The window that the client gives to a stream at first, and what is left of that of the last stream.
    first_window: usize,
    window: usize,
}

impl Backend {
    /// Starts a backend that takes `streams` requests of a connection at once, and answers one request after another as
    /// the script says, on whatever connection it comes; the last entry is repeated.
    async fn start(streams: u32, script: &[&[Say]]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let peer = Peer { address: listener.local_addr().unwrap(), transport: Transport::H2c };
        let backend = Self { peer, connections: Rc::default(), requests: Rc::default() };
        let (connections, requests) = (Rc::clone(&backend.connections), Rc::clone(&backend.requests));
        let script: Vec<Vec<Say>> = script.iter().map(|says| says.to_vec()).collect();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.set(connections.get() + 1);
                let talk = Talk { stream, first_window: 0, window: 0 };
                tokio::task::spawn_local(talk.serve(streams, script.clone(), Rc::clone(&requests)));
            }
        });
        backend
    }
}

impl Talk {
    async fn serve(mut self, streams: u32, script: Vec<Vec<Say>>, requests: Rc<Cell<usize>>) -> Option<()> {
        self.stream.read_exact(&mut [0; 24]).await.ok()?;
        self.send(SETTINGS, 0, 0, &[&[0, 3][..], &streams.to_be_bytes()].concat()).await?;
        loop {
            let (kind, stream, _) = self.hear().await?;
            if kind == HEADERS {
                let says = script[requests.get().min(script.len() - 1)].clone();
                requests.set(requests.get() + 1);
                self.window = self.first_window;
                for say in says {
                    self.say(say, stream).await?;
                }
            }
        }
    }

    async fn say(&mut self, say: Say, stream: u32) -> Option<()> {
        // The status 200, as the table of HPACK has it.
        const STATUS: &[u8] = &[0x88];
        match say {
            Say::Whole(body) => {
                self.send(HEADERS, END_HEADERS, stream, STATUS).await?;
                self.send(DATA, END_STREAM, stream, body).await
            }
            Say::Begin(body) => {
                self.send(HEADERS, END_HEADERS, stream, STATUS).await?;
                self.send(DATA, 0, stream, body).await
            }
            Say::Reset(reason) => self.send(RST_STREAM, 0, stream, &reason.to_be_bytes()).await,
            Say::Leave(before) => {
                let last = stream.saturating_sub(2 * before).to_be_bytes();
                self.send(GOAWAY, 0, 0, &[&last[..], &[0; 4]].concat()).await
            }
            Say::Padded(frames) => {
                let padded = [&[255, b'x'][..], &[0; 255]].concat();
                self.send(HEADERS, END_HEADERS, stream, STATUS).await?;
                for _ in 0..frames {
                    while self.window < padded.len() {
                        self.hear().await?;
                    }
                    self.window -= padded.len();
                    self.send(DATA, PADDED, stream, &padded).await?;
                }
                self.send(DATA, END_STREAM, stream, &[]).await
            }
            Say::Close => None,
        }
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Option<()> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await.ok()
    }

    /// Reads a frame, and does what every backend does on it.
    async fn hear(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        match head[3] {
            SETTINGS if head[4] != ACK => {
                let window = (0..payload.len()).step_by(6).rfind(|at| payload[*at + 1] == 4);
                self.first_window = window.map_or(65_535, |at| number(at + 2) as usize);
                self.send(SETTINGS, ACK, 0, &[]).await?;
            }
            PING if head[4] != ACK => self.send(PING, ACK, 0, &payload).await?,
            WINDOW_UPDATE if stream > 0 => self.window += number(0) as usize,
            _ => {}
        }
        Some((head[3], stream, payload))
    }
}

const PIECE: &[u8] = b"piece";
const REFUSED: u32 = 7;

#[tokio::test(flavor = "local")]
async fn requests_are_sent_again_only_where_the_backend_says_that_it_did_not_begin() {
    let hello = || Body::Whole(Bytes::from_static(b"hello"));
    for (case, says, served, sends, processed, connections) in [
        ("left before it", &[Say::Leave(1), Say::Close][..], true, 2, None, 2),
        ("left with it", &[Say::Leave(0), Say::Close], false, 1, Some(Processed::Maybe), 1),
        ("closed without a word", &[Say::Close], false, 1, Some(Processed::Maybe), 1),
        ("reset while it worked", &[Say::Reset(2)], false, 1, Some(Processed::Maybe), 1),
        ("refused once", &[Say::Reset(REFUSED)], true, 2, None, 1),
    ] {
        let backend = Backend::start(10, &[&[Say::Whole(PIECE)], says, &[Say::Whole(PIECE)]]).await;
        let (client, headers) = (client(), HeaderMap::new());
        fetch(&client, &backend.peer, &Method::GET, Body::Empty).await.unwrap();
        let sent = client.send(&backend.peer, &mut ask(&Method::POST, &headers, hello())).await;
        let outcome = match &sent {
            Ok(answer) => (true, answer.sends, None),
            Err(failure) => (false, failure.sends, Some(failure.processed)),
        };
        assert_eq!(outcome, (served, sends, processed), "{case}: {:?}", sent.err());
        assert_eq!(backend.connections.get(), connections, "{case}");
        assert_eq!(backend.requests.get(), 1 + sends as usize, "{case}");
    }
}

#[tokio::test(flavor = "local")]
async fn a_backend_that_refuses_everything_gets_no_further_connections() {
    let backend = Backend::start(10, &[&[Say::Whole(PIECE)], &[Say::Reset(REFUSED)]]).await;
    let (client, headers) = (client(), HeaderMap::new());
    fetch(&client, &backend.peer, &Method::GET, Body::Empty).await.unwrap();
    for _ in 0..20 {
        let failure = client.send(&backend.peer, &mut ask(&Method::POST, &headers, Body::Empty)).await.err().unwrap();
        assert_eq!((failure.processed, failure.sends), (Processed::No, 2));
    }
    assert_eq!(backend.connections.get(), 1);
}

#[tokio::test(flavor = "local")]
async fn a_backend_that_allows_no_requests_is_not_waited_for_without_end() {
    let backend = Backend::start(0, &[&[Say::Whole(PIECE)]]).await;
    let upstream = Upstream { connect_timeout: Duration::from_millis(500), ..upstream(RootCertStore::empty()) };
    let headers = HeaderMap::new();
    let sent = upstream.client().send(&backend.peer, &mut ask(&Method::GET, &headers, Body::Empty)).await;
    let failure = sent.err().unwrap();
    let AttemptError::Handshake(error) = &failure.error else { panic!("{failure:?}") };
    assert_eq!(error.to_string(), "it allows no requests on its connections");
    assert_eq!((failure.processed, failure.sends), (Processed::No, 0));
}

#[tokio::test(flavor = "local")]
async fn padding_does_not_use_up_the_window() {
    let backend = Backend::start(10, &[&[Say::Padded(2_000)]]).await;
    let fetched = fetch(&client(), &backend.peer, &Method::GET, Body::Empty).await;
    assert_eq!(fetched, Ok((200, "x".repeat(2_000))));
}

#[tokio::test(flavor = "local")]
async fn an_answer_over_http2_is_whole_only_when_the_backend_ends_it() {
    for (case, says) in [
        ("a reset without an error", &[Say::Begin(PIECE), Say::Reset(0)][..]),
        ("a reset", &[Say::Begin(PIECE), Say::Reset(8)]),
        ("an orderly end of the connection", &[Say::Begin(PIECE), Say::Leave(0), Say::Close]),
        ("an end of the connection", &[Say::Begin(PIECE), Say::Close]),
    ] {
        let backend = Backend::start(10, &[says]).await;
        let fetched = fetch(&client(), &backend.peer, &Method::GET, Body::Empty).await;
        assert_eq!(fetched, Err("body: the connection ended before the answer".to_owned()), "{case}");
    }
}
