// Asks a proxy for each model with the official clients, streaming and not. It prints a line for each answer.
// Arguments: the proxy's URL, the provider's URL, the headers of each API as JSON, and the models.
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';

const [proxy, provider, headersJSON, ...models] = process.argv.slice(2);
const headers = JSON.parse(headersJSON);
const messages = [{ role: 'user', content: 'Why?' }];
const options = { apiKey: 'of-the-client', maxRetries: 0, timeout: 130000 };

const ask = {
  async openai(model, stream, defaultHeaders) {
    const client = new OpenAI({ ...options, baseURL: proxy + '/v1', defaultHeaders });
    const answer = await client.chat.completions.create({ model, messages, stream });
    if (!stream) return answer.choices[0].message.content;
    let text = '';
    for await (const chunk of answer) text += chunk.choices[0]?.delta?.content ?? '';
    return text;
  },
  async anthropic(model, stream, defaultHeaders) {
    const client = new Anthropic({ ...options, baseURL: proxy, defaultHeaders });
    const answer = await client.messages.create({ model, max_tokens: 100, messages, stream });
    if (!stream) return answer.content[0].text;
    let text = '';
    for await (const event of answer) if (event.type === 'content_block_delta') text += event.delta.text;
    return text;
  },
};

for (const client of Object.keys(ask)) {
  for (const stream of [false, true]) {
    for (const model of models) {
      let text = '';
      let error = '';
      await fetch(provider + '/reset', { method: 'POST' });
      try {
        text = await ask[client](model, stream, headers[client][model]);
      } catch (e) {
        error = `${e.constructor.name}: ${e.message}`;
      }
      console.log(JSON.stringify({ client, stream, model, text, error }));
    }
  }
}
