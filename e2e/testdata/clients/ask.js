// Asks both APIs for every model, streaming and not, with the official clients, each below a path of
// its own. It prints a line for each: what was asked, and the text that a program gets, or the error.
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';

const [base, ...models] = process.argv.slice(2);
const messages = [{ role: 'user', content: 'hi' }];
const options = (at) => ({ baseURL: at, apiKey: 'of-the-client', maxRetries: 0 });

const ask = {
  async openai(at, model, stream) {
    const client = new OpenAI(options(at + '/v1'));
    const answer = await client.chat.completions.create({ model, messages, stream });
    if (!stream) return answer.choices[0].message.content;
    let text = '';
    for await (const chunk of answer) text += chunk.choices[0]?.delta?.content ?? '';
    return text.trimEnd();
  },
  async anthropic(at, model, stream) {
    const client = new Anthropic(options(at));
    const answer = await client.messages.create({ model, max_tokens: 100, messages, stream });
    if (!stream) return answer.content[0].text;
    let text = '';
    for await (const event of answer) if (event.type === 'content_block_delta') text += event.delta.text;
    return text.trimEnd();
  },
};

for (const client of Object.keys(ask)) {
  for (const model of models) {
    for (const stream of [false, true]) {
      let text;
      try {
        text = await ask[client](`${base}/${client}-${model}-${stream}`, model, stream);
      } catch (error) {
        text = `${error.constructor.name}: ${error.message}`;
      }
      console.log(JSON.stringify({ client, model, stream, text }));
    }
  }
}
