// Everything that has one answer: chat, completions, embeddings, models.
import { client, messages, model, report } from "./rig.mjs";

const chat = await client.chat.completions.create({ model, messages, n: 2, temperature: 0.5 });
const completion = await client.completions.create({ model, prompt: "Once" });
const embedding = await client.embeddings.create({ model, input: ["a", "b"], encoding_format: "float" });
const models = [];
for await (const one of client.models.list()) models.push(one.id);
const retrieved = await client.models.retrieve(model);
report({
  chat: chat.choices.map((choice) => choice.message.content),
  usage: chat.usage.total_tokens,
  requestId: chat._request_id,
  completion: completion.choices[0].text,
  embedding: embedding.data.map((item) => item.embedding),
  models,
  retrieved: retrieved.id,
});
