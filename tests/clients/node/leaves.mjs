// Leaves in the middle of a stream, as an application does that lost interest.
import { client, messages, model, report } from "./rig.mjs";

const stream = await client.chat.completions.create({ model, messages, stream: true });
let heard = 0;
for await (const chunk of stream) {
  heard += chunk.choices[0]?.delta?.content ? 1 : 0;
  if (heard === 2) break;
}
report({ heard });
