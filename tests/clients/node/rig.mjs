// What the scripts share: the client as an application makes it, and one JSON line as the result.
import OpenAI from "openai";

export const client = new OpenAI({
  baseURL: process.env.BASE_URL,
  apiKey: process.env.API_KEY,
  maxRetries: 0,
  timeout: 15_000,
});

export const model = "chat";
export const messages = [{ role: "user", content: "Say something." }];

export function report(result) {
  process.stdout.write(JSON.stringify(result) + "\n");
}

// What a rejected promise says of itself; null when it was fulfilled.
export async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return {
      name: error.constructor.name,
      status: error.status ?? null,
      code: error.code ?? null,
      message: error.message,
      requestId: error.requestID ?? null,
    };
  }
  return null;
}
