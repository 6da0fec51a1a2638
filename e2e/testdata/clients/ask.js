// Asks for every model, streaming and not, with each client library, each below a path of its own. It
// prints a line for each: what was asked, and the text that a program gets, or the error.
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import Anthropic from '@anthropic-ai/sdk';
import { generateText, streamText } from 'ai';
import OpenAI from 'openai';

globalThis.AI_SDK_LOG_WARNINGS = false; // they go to standard output
const [base, ...models] = process.argv.slice(2);
const messages = [{ role: 'user', content: 'hi' }];
const options = (at) => ({ baseURL: at, apiKey: 'of-the-client', maxRetries: 0 });

// ai asks with a model of one of its providers.
async function ai(model, stream) {
  if (!stream) return (await generateText({ model, prompt: 'hi', maxRetries: 0 })).text;
  let text = '';
  let failed;
  const answer = streamText({ model, prompt: 'hi', maxRetries: 0, onError: ({ error }) => { failed = error; } });
  for await (const part of answer.textStream) text += part;
  if (failed) throw failed;
  return text;
}

const ask = {
  async openai(at, model, stream) {
    const client = new OpenAI(options(at + '/v1'));
    const answer = await client.chat.completions.create({ model, messages, stream });
    if (!stream) return answer.choices[0].message.content;
    let text = '';
    for await (const chunk of answer) text += chunk.choices[0]?.delta?.content ?? '';
    return text;
  },
  async 'openai-responses'(at, model, stream) {
    const client = new OpenAI(options(at + '/v1'));
    const answer = await client.responses.create({ model, input: 'hi', stream });
    if (!stream) return answer.output_text;
    let text = '';
    for await (const event of answer) if (event.type === 'response.output_text.delta') text += event.delta;
    return text;
  },
  async anthropic(at, model, stream) {
    const client = new Anthropic(options(at));
    const answer = await client.messages.create({ model, max_tokens: 100, messages, stream });
    if (!stream) return answer.content[0].text;
    let text = '';
    for await (const event of answer) if (event.type === 'content_block_delta') text += event.delta.text;
    return text;
  },
  'ai-openai': (at, model, stream) => ai(createOpenAI(options(at + '/v1'))(model), stream),
  'ai-openai-chat': (at, model, stream) => ai(createOpenAI(options(at + '/v1')).chat(model), stream),
  'ai-anthropic': (at, model, stream) => ai(createAnthropic(options(at + '/v1'))(model), stream),
};

for (const client of Object.keys(ask)) {
  for (const model of models) {
    for (const stream of [false, true]) {
      let text;
      try {
        text = (await ask[client](`${base}/${client}-${model}-${stream}`, model, stream)).trimEnd();
      } catch (error) {
        text = `${error.constructor.name}: ${error.message}`;
      }
      console.log(JSON.stringify({ client, model, stream, text }));
    }
  }
}
