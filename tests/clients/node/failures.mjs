// Failures as the library's typed errors; a stream that is cut throws in the middle.
import OpenAI from "openai";
import { client, failure, messages, model, report } from "./rig.mjs";

const stranger = new OpenAI({
  baseURL: process.env.BASE_URL,
  apiKey: "sk-gw-nobody-knows-this-key",
  maxRetries: 0,
});
const create = (fields) => client.chat.completions.create({ model, messages, ...fields });

let heard = "";
async function consume() {
  for await (const chunk of await create({ stream: true })) {
    heard += chunk.choices[0]?.delta?.content ?? "";
  }
}

report({
  unauthorized: await failure(stranger.chat.completions.create({ model, messages })),
  unknownModel: await failure(create({ model: "no-such-model" })),
  invalid: await failure(create({ max_tokens: -1 })),
  limited: await failure(create({})),
  broken: await failure(create({})),
  cut: await failure(consume()),
  heard,
});
