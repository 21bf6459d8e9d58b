//! How many tokens a request may need, by its body alone.
//!
//! Source: the Go router. A prompt has a token for each four characters. A chat is written down as ChatML would have it,
//! `<|im_start|>ROLE`, the content, `<|im_end|>`, so that each message has tokens of its own.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Characters of a token.
const CHARACTERS: usize = 4;
/// Characters that ChatML adds to a message, beside its role and its content.
const FRAME: usize = "<|im_start|>\n<|im_end|>\n".len();

/// The tokens that a request may need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens of its prompt.
    pub input: u32,
    /// Tokens that its answers have at most, if it says so.
    pub most_output: Option<u32>,
}

/// The fields that say how much a request needs.
#[derive(Deserialize)]
struct Fields<'b> {
    #[serde(borrow)]
    prompt: Option<Texts<'b>>,
    #[serde(borrow)]
    messages: Option<Vec<Message<'b>>>,
    #[serde(borrow)]
    system: Option<Texts<'b>>,
    #[serde(borrow)]
    input: Option<Input<'b>>,
    #[serde(borrow)]
    instructions: Option<Texts<'b>>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    max_output_tokens: Option<u32>,
    n: Option<u32>,
}

#[derive(Deserialize)]
struct Message<'b> {
    #[serde(borrow, default)]
    role: Option<Cow<'b, str>>,
    #[serde(borrow, default)]
    content: Option<Texts<'b>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input<'b> {
    #[serde(borrow)]
    Messages(Vec<Message<'b>>),
    #[serde(borrow)]
    Texts(Texts<'b>),
}

/// Texts in each of their forms; what is no text counts as none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts<'b> {
    #[serde(borrow)]
    One(Cow<'b, str>),
    Tokens(Vec<u32>),
    #[serde(borrow)]
    Many(Vec<Texts<'b>>),
    Part {
        #[serde(borrow)]
        text: Cow<'b, str>,
    },
    Other(IgnoredAny),
}

impl Estimate {
    /// Estimates a request by its body; one that cannot be read is taken for text as it is.
    pub fn of(body: &[u8]) -> Self {
        match serde_json::from_slice::<Fields<'_>>(body) {
            Ok(fields) => Self { input: fields.input(), most_output: fields.most_output() },
            Err(_) => Self { input: tokens(body.len()), most_output: None },
        }
    }
}

impl Fields<'_> {
    fn input(&self) -> u32 {
        if let Some(prompt) = &self.prompt {
            return prompt.tokens();
        }
        let of_system = |texts: &Option<Texts<'_>>, role: &str| {
            texts.as_ref().map_or(0, |texts| FRAME + role.len() + texts.characters())
        };
        let characters = match (&self.messages, &self.input) {
            (Some(messages), _) => of_system(&self.system, "system") + chat(messages),
            (None, Some(Input::Messages(messages))) => of_system(&self.instructions, "developer") + chat(messages),
            (None, Some(Input::Texts(Texts::One(text)))) => {
                of_system(&self.instructions, "developer") + FRAME + "user".len() + text.chars().count()
            }
            (None, Some(Input::Texts(texts))) => return texts.tokens(),
            (None, None) => 0,
        };
        tokens(characters)
    }

    fn most_output(&self) -> Option<u32> {
        let most = self.max_completion_tokens.or(self.max_tokens).or(self.max_output_tokens)?;
        Some(most.saturating_mul(self.n.unwrap_or(1).max(1)))
    }
}

impl Texts<'_> {
    fn characters(&self) -> usize {
        match self {
            Self::One(text) | Self::Part { text } => text.chars().count(),
            Self::Tokens(tokens) => tokens.len() * CHARACTERS,
            Self::Many(texts) => texts.iter().map(Texts::characters).sum::<usize>() + texts.len().saturating_sub(1),
            Self::Other(_) => 0,
        }
    }

    fn tokens(&self) -> u32 {
        match self {
            Self::Many(texts) => texts.iter().map(Texts::tokens).fold(0, u32::saturating_add),
            one => tokens(one.characters()),
        }
    }
}

fn chat(messages: &[Message<'_>]) -> usize {
    let framed = |message: &Message<'_>| {
        let content = message.content.as_ref()?;
        Some(FRAME + message.role.as_deref().map_or(0, |role| role.chars().count()) + content.characters())
    };
    messages.iter().filter_map(framed).sum()
}

/// Returns how many tokens so many characters are.
fn tokens(characters: usize) -> u32 {
    u32::try_from(characters.div_ceil(CHARACTERS)).unwrap_or(u32::MAX)
}
