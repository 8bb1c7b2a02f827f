//! A fake embeddings endpoint, as bad as it is told to be.

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};

use super::fake::{Request, request};

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    /// 429, with a `Retry-After` of no time.
    Busy,
    /// 500.
    Broken,
    /// 401, and the key in its words.
    Unauthorized,
    /// A redirect.
    Elsewhere,
    /// Nothing, until it is told otherwise.
    Hanging,
    WrongDimension,
    WrongCount,
    /// A `null` among the numbers.
    NotANumber,
    /// More bytes than the vectors can have.
    Huge,
    /// Half an answer.
    ClosesEarly,
    NotJson,
}

/// All bad ones.
pub(crate) const BAD: [Mood; 11] = [
    Mood::Busy,
    Mood::Broken,
    Mood::Unauthorized,
    Mood::Elsewhere,
    Mood::Hanging,
    Mood::WrongDimension,
    Mood::WrongCount,
    Mood::NotANumber,
    Mood::Huge,
    Mood::ClosesEarly,
    Mood::NotJson,
];

/// Numbers in its vectors.
pub(crate) const DIMENSION: usize = 16;

#[derive(Debug)]
struct State {
    mood: Mood,
    /// Answers that it still gives before it hangs.
    answers: usize,
    requests: Vec<Request>,
    /// Texts that it gave vectors of.
    texts: Vec<String>,
}

/// An endpoint that serves until the process ends.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Endpoint {
    pub(crate) fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let state = State {
            mood: Mood::Good,
            answers: usize::MAX,
            requests: Vec::new(),
            texts: Vec::new(),
        };
        let endpoint = Self { url, state: Arc::new((Mutex::new(state), Condvar::new())) };
        let serving = endpoint.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.connection(stream.unwrap()));
            }
        });
        endpoint
    }

    /// Flags of `engram start` for it.
    pub(crate) fn flags<'a>(&'a self, model: &'a str) -> Vec<&'a str> {
        let mut flags = vec!["--embedder", "openai", "--embedder-url", &self.url];
        flags.extend(["--embedder-model", model, "--embedder-dimension", "16"]);
        flags
    }

    pub(crate) fn be(&self, mood: Mood) {
        let (state, changed) = &*self.state;
        let mut state = state.lock().unwrap();
        (state.mood, state.answers) = (mood, usize::MAX);
        changed.notify_all();
    }

    /// Hangs after so many more good answers.
    pub(crate) fn hang_after(&self, answers: usize) {
        let (state, changed) = &*self.state;
        let mut state = state.lock().unwrap();
        (state.mood, state.answers) = (Mood::Good, answers);
        changed.notify_all();
    }

    /// Texts that it gave vectors of, so far.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.state.0.lock().unwrap().texts.clone()
    }

    /// The heads of all requests, so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.state.0.lock().unwrap().requests.iter().map(|r| r.head.clone()).collect()
    }

    /// Paths and bodies of all requests, so far.
    pub(crate) fn bodies(&self) -> Vec<(String, Value)> {
        let state = self.state.0.lock().unwrap();
        let body = |r: &Request| (r.path.clone(), serde_json::from_str(&r.body).unwrap());
        state.requests.iter().map(body).collect()
    }

    fn connection(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = request(&mut reader) {
            let asked: Value = serde_json::from_str(&request.body).unwrap();
            let texts: Vec<String> = asked["input"]
                .as_array()
                .unwrap()
                .iter()
                .map(|text| text.as_str().unwrap().to_owned())
                .collect();
            let (state, changed) = &*self.state;
            let mut state = state.lock().unwrap();
            state.requests.push(request);
            changed.notify_all();
            if state.answers == 0 {
                state.mood = Mood::Hanging;
            }
            state.answers = state.answers.saturating_sub(1);
            while state.mood == Mood::Hanging {
                state = changed.wait(state).unwrap();
            }
            let mood = state.mood;
            if mood == Mood::Good {
                state.texts.extend(texts.iter().cloned());
            }
            drop(state);
            let (status, headers, body) = answer(mood, &texts);
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n");
            let sent = if mood == Mood::ClosesEarly { &body[..length / 2] } else { &body[..] };
            let whole = stream.write_all(head.as_bytes());
            let whole = whole.and_then(|()| stream.write_all(sent.as_bytes()));
            if whole.is_err() || mood == Mood::ClosesEarly {
                drop(stream.shutdown(std::net::Shutdown::Both));
                return;
            }
        }
    }
}

fn answer(mood: Mood, texts: &[String]) -> (u16, &'static str, String) {
    let problem = |message: &str| json!({ "error": { "message": message } }).to_string();
    let vectors: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({ "index": index, "embedding": vector(text) }))
        .collect();
    let mut data = Value::from(vectors);
    match mood {
        Mood::Busy => return (429, "retry-after: 0\r\n", problem("slow down")),
        Mood::Broken => return (500, "", problem("oh no")),
        Mood::Unauthorized => return (401, "", problem("bad key sk-very-secret")),
        Mood::Elsewhere => {
            return (307, "location: http://127.0.0.1:1/v1/embeddings\r\n", String::new());
        }
        Mood::NotJson => return (200, "", "<html>".into()),
        Mood::Huge => return (200, "", " ".repeat(1 << 20)),
        Mood::WrongDimension => data[0]["embedding"].as_array_mut().unwrap().push(json!(1)),
        Mood::WrongCount => drop(data.as_array_mut().unwrap().pop()),
        Mood::NotANumber => data[0]["embedding"][3] = Value::Null,
        Mood::Good | Mood::Hanging | Mood::ClosesEarly => {}
    }
    (200, "", json!({ "object": "list", "data": data }).to_string())
}

fn vector(text: &str) -> Vec<f32> {
    let mut vector = vec![0.01; DIMENSION];
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let hash = word.bytes().fold(7usize, |sum, b| sum.wrapping_mul(31) + usize::from(b));
        vector[hash % DIMENSION] += 1.0;
    }
    vector
}
