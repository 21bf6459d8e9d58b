// What the Node client of OpenAI does: prints one line for each case, its name and what is wrong, if anything is.
import { createReadStream } from 'node:fs';
import OpenAI from 'openai';

const [base, model, media, sound] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: 'none', maxRetries: 0 });
const messages = [{ role: 'user', content: 'Say something: größer.' }];

function check(condition, what) {
  if (!condition) throw new Error(what);
}

const cases = {
  async chat() {
    const answer = await client.chat.completions.create({ model, messages });
    check(answer.choices[0].message.content.length > 0, 'no content');
    check(answer.usage.total_tokens > 0, 'no usage');
  },
  async 'chat, stream'() {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    let text = '';
    for await (const chunk of stream) {
      check(chunk.choices.length > 0, 'an event that was not asked for');
      text += chunk.choices[0].delta.content ?? '';
    }
    check(text.length > 0, 'no content');
  },
  async 'chat, stream with usage'() {
    const options = { model, messages, stream: true, stream_options: { include_usage: true } };
    let usage;
    for await (const chunk of await client.chat.completions.create(options)) usage = chunk.usage ?? usage;
    check(usage.total_tokens > 0, 'no usage');
  },
  async responses() {
    const answer = await client.responses.create({ model, input: 'Say something.' });
    check(answer.output_text.length > 0, 'no text');
  },
  async 'responses, stream'() {
    const types = [];
    for await (const event of await client.responses.create({ model, input: 'Say it.', stream: true })) types.push(event.type);
    check(types.at(-1) === 'response.completed', `ends with ${types.at(-1)}`);
  },
  async embeddings() {
    const answer = await client.embeddings.create({ model, input: ['a', 'b'] });
    check(answer.data.length === 2, 'not two of them');
  },
  async 'unknown model'() {
    const refused = await client.chat.completions.create({ model: 'unknown', messages }).catch((error) => error);
    check(refused instanceof OpenAI.NotFoundError, `not refused as such: ${refused}`);
    check(refused.error.message.includes('unknown'), 'does not say what is unknown');
  },
  async transcription() {
    const answer = await client.audio.transcriptions.create({ model: media, file: createReadStream(sound) });
    check(answer.text.includes(`${(await import('node:fs')).statSync(sound).size} bytes`), answer.text);
  },
};

for (const [name, run] of Object.entries(cases)) {
  const fault = await run().then(() => '', (error) => `${error}`.replaceAll('\n', ' '));
  console.log(`${name}\t${fault}`);
}
