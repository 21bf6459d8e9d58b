//! Makes what a broken or hostile client sends.

use rand::RngExt;
use rand::rngs::StdRng;

const HEADS: &[&str] = &[
    "GET / HTTP/1.1\r\nhost: a.org\r\n\r\n",
    "GET /abc?x=y HTTP/1.0\r\n\r\n",
    "HEAD /ab HTTP/1.1\r\nhost: a.org:80\r\nconnection: keep-alive\r\n\r\n",
    "POST /a HTTP/1.1\r\nhost: [::1]\r\ncontent-length: 5\r\n\r\nhello",
    "POST /ab HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
    "POST /abc HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nt: v\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET http://a.org/x HTTP/1.1\r\nhost: b.org\r\n\r\n",
    "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nbytes",
    "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n",
    "DELETE /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    "POST /chunks HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "POST /old HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi",
    "HEAD /old HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n",
    "POST /up HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\ncontent-length: 3\r\n\r\nabc",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

const SPLICES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\0",
    ":",
    " ",
    "\t",
    ",",
    "content-length: 5\r\n",
    "content-length: 18446744073709551616\r\n",
    "transfer-encoding: chunked\r\n",
    "transfer-encoding: identity\r\n",
    "host: b\r\n",
    "0\r\n\r\n",
    "ffffffffffffffff\r\n",
    "HTTP/1.1",
    "HTTP/3.0",
    "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
    "connection: close\r\n",
    "upgrade: x\r\n",
    "\u{80}",
];

/// Makes a connection of HTTP/1: requests one behind the other, most of them changed somewhere.
pub(crate) fn http1(random: &mut StdRng) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..random.random_range(1..12) {
        let mut request = pick(random, HEADS).as_bytes().to_vec();
        if random.random_bool(0.3) {
            let long = random.random_range(0..20_000);
            let at = request.windows(2).position(|bytes| bytes == b"\r\n").map_or(0, |at| at + 2);
            request.splice(at..at, format!("x: {}\r\n", "v".repeat(long)).into_bytes());
        }
        mutate(random, &mut request);
        input.extend(request);
        if random.random_bool(0.1) {
            input.extend(large(random));
        }
    }
    input
}

/// Makes a request with a body that does not come with its head, of a length or in chunks of any size.
fn large(random: &mut StdRng) -> Vec<u8> {
    let length = random.random_range(0..200_000);
    let head = "POST /large HTTP/1.1\r\nhost: a\r\n";
    if random.random_bool(0.5) {
        let mut request = format!("{head}content-length: {length}\r\n\r\n").into_bytes();
        request.resize(request.len() + length, b'l');
        return request;
    }
    let mut request = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
    let most = *pick(random, &[2, 100, 5000, 70_000]);
    for _ in 0..random.random_range(0..20) {
        let size = random.random_range(1..most);
        request.extend(format!("{size:x}\r\n{}\r\n", "c".repeat(size)).into_bytes());
    }
    request.extend(b"0\r\n\r\n");
    request
}

/// Makes a connection of HTTP/2: frames in any order, with good and bad lengths, streams and contents.
pub(crate) fn http2(random: &mut StdRng) -> Vec<u8> {
    let mut input = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    input.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    // Most connections are broken in few places: others end at the first of them.
    let wild = random.random_bool(0.3);
    let mut stream = 1;
    for _ in 0..random.random_range(1..60) {
        let kinds = [0_u8, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 3, 4, 6, 8, 8, 200, 5, 7, 9, 10];
        let kind = *pick(random, if wild { &kinds } else { &kinds[..17] });
        if kind == 1 {
            stream += 2;
        }
        let on = match random.random_range(0..10) {
            0 if wild => 0,
            1 if wild => random.random_range(0..200),
            _ => stream,
        };
        let flags = match kind {
            1 if random.random_bool(0.9) => 4 | u8::from(random.random_bool(0.5)),
            0 => {
                u8::from(random.random_bool(0.2)) | if random.random_bool(if wild { 0.1 } else { 0.0 }) { 8 } else { 0 }
            }
            _ => random.random_range(0..=255) & if random.random_bool(0.7) { 1 } else { 255 },
        };
        let on = if [4, 6, 7].contains(&kind) && (!wild || random.random_bool(0.9)) { 0 } else { on };
        let made = match kind {
            1 | 9 => frame(random, kind, flags, on, &fields_of),
            4 => frame(random, kind, flags, on, &settings_of),
            3 | 8 => frame(random, kind, flags, on, &|random| bytes(random, 4)),
            6 | 7 => frame(random, kind, flags, on, &|random| bytes(random, 8)),
            2 => frame(random, kind, flags, on, &|random| bytes(random, 5)),
            _ => frame(random, kind, flags, on, &|random| {
                let length = *pick(random, &[0, 1, 5, 100, 1000, 16_384, 16_384]);
                bytes(random, length)
            }),
        };
        input.extend(made);
    }
    if random.random_bool(0.1) {
        mutate(random, &mut input);
    }
    input
}

fn frame(random: &mut StdRng, kind: u8, flags: u8, stream: u32, payload: &dyn Fn(&mut StdRng) -> Vec<u8>) -> Vec<u8> {
    let payload = payload(random);
    let lies = random.random_bool(0.002);
    let length = if lies { random.random_range(0..1 << 24) } else { payload.len() as u32 };
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn settings_of(random: &mut StdRng) -> Vec<u8> {
    let mut payload = Vec::new();
    for _ in 0..random.random_range(0..4) {
        payload.extend(pick(random, &[1_u16, 3, 4, 4, 4, 5, 6, 9]).to_be_bytes());
        payload.extend(pick(random, &[0_u32, 1, 100, 65_535, 65_535, 65_535, 1 << 20, u32::MAX]).to_be_bytes());
    }
    payload
}

/// Makes a block of fields: literals, mostly those of a request.
fn fields_of(random: &mut StdRng) -> Vec<u8> {
    let paths = ["/", "/a", "/ab", "/abc", "*", "", "x", "http://a/x"];
    let fields: [(&str, &[&str]); 9] = [
        (":method", &["GET", "POST", "HEAD", "OPTIONS", "CONNECT", ""]),
        (":scheme", &["http", "https", "ftp", ""]),
        (":authority", &["a.org", "a:80", "a,b", "u@a", ""]),
        (":path", &paths),
        ("host", &["a.org", "b.org", "a,b"]),
        ("content-length", &["0", "5", "100", "x", "18446744073709551616"]),
        ("connection", &["close"]),
        ("te", &["trailers", "gzip"]),
        ("X-Upper", &["v"]),
    ];
    let mut block = Vec::new();
    for (index, (name, values)) in fields.iter().enumerate() {
        let is_there = if index < 4 { random.random_bool(0.97) } else { random.random_bool(0.08) };
        if is_there {
            let value = if random.random_bool(0.8) { values[0] } else { pick(random, values) };
            for text in [name, &value] {
                block.push(text.len() as u8);
                if text.as_ptr() == name.as_ptr() {
                    block.insert(block.len() - 1, 0);
                }
                block.extend(text.as_bytes());
            }
        }
    }
    if random.random_bool(0.02) {
        mutate(random, &mut block);
    }
    block
}

fn bytes(random: &mut StdRng, length: usize) -> Vec<u8> {
    let byte = random.random_range(0..=255);
    let mut bytes = vec![byte; length];
    if let Some(first) = bytes.first_mut() {
        *first = *pick(random, &[0, 1, 127]);
    }
    bytes
}

/// Changes some bytes, or none.
fn mutate(random: &mut StdRng, input: &mut Vec<u8>) {
    for _ in 0..*pick(random, &[0, 0, 0, 1, 1, 2, 5]) {
        if input.is_empty() {
            return;
        }
        let at = random.random_range(0..input.len());
        match random.random_range(0..5) {
            0 => input[at] = random.random_range(0..=255),
            1 => drop(input.remove(at)),
            2 => drop(input.splice(at..at, pick(random, SPLICES).bytes())),
            3 => input.truncate(at),
            _ => {
                let end = random.random_range(at..input.len().min(at + 100));
                let again: Vec<u8> = input[at..end].to_vec();
                drop(input.splice(at..at, again));
            }
        }
    }
}

fn pick<'l, T>(random: &mut StdRng, list: &'l [T]) -> &'l T {
    &list[random.random_range(0..list.len())]
}
