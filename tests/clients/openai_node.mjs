// Uses a server as a program of the official Node client does, and prints what it
// got as one JSON object. Arguments: base URL of the API, model.
// It may connect to this machine alone: its sockets are watched before it is loaded.
import net from "node:net";
import process from "node:process";

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...args) {
  const given = Array.isArray(args[0]) ? args[0][0] : args[0];
  const host = given?.host ?? "localhost";
  if (!["127.0.0.1", "::1", "localhost"].includes(host) && !given?.path) {
    throw new Error(`the tests do not leave the machine: ${host}`);
  }
  return connect.apply(this, args);
};

const { default: OpenAI } = await import("openai");

const [baseURL, model] = process.argv.slice(-2);
const client = new OpenAI({ baseURL, apiKey: "unused", maxRetries: 0, timeout: 60_000 });
const ask = (content) => ({ model, temperature: 0, messages: [{ role: "user", content }] });

const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const weather = {
  name: "get_weather",
  description: "Get the weather of a city.",
  parameters,
  strict: true,
};
const person = {
  type: "object",
  properties: { name: { type: "string" }, city: { type: "string" } },
  required: ["name", "city"],
  additionalProperties: false,
};
const wantWeather = "Use get_weather with city Zurich.";
const wantPerson = "Give me a JSON object with name Ada and city Zurich.";

async function chat() {
  const answer = await client.chat.completions.create(ask("What is 12 + 31?"));
  return { content: answer.choices[0].message.content, usage: answer.usage };
}

async function stream() {
  const stream = await client.chat.completions.create({
    ...ask("What is 12 + 31?"),
    stream: true,
    stream_options: { include_usage: true },
  });
  const pieces = [];
  let usage = null;
  for await (const chunk of stream) {
    const content = chunk.choices[0]?.delta.content;
    if (content) pieces.push(content);
    usage = chunk.usage ?? usage;
  }
  return { content: pieces.join(""), n_pieces: pieces.length, usage };
}

// The helper calls the function and asks again until there is an answer.
async function runTools(isStreamed) {
  const seen = [];
  const runner = client.chat.completions.runTools({
    ...ask(wantWeather),
    stream: isStreamed,
    tools: [
      {
        type: "function",
        function: {
          ...weather,
          parse: JSON.parse,
          function: ({ city }) => {
            seen.push(city);
            return "42";
          },
        },
      },
    ],
  });
  const content = await runner.finalContent();
  return { content, seen, roles: runner.messages.map((message) => message.role) };
}

async function streamCall() {
  const stream = client.chat.completions.stream({
    ...ask(wantWeather),
    tools: [{ type: "function", function: weather }],
  });
  const deltas = [];
  stream.on("tool_calls.function.arguments.delta", (event) =>
    deltas.push(event.arguments_delta),
  );
  const { choices } = await stream.finalChatCompletion();
  const [call] = choices[0].message.tool_calls;
  return {
    finish_reason: choices[0].finish_reason,
    name: call.function.name,
    arguments: call.function.arguments,
    deltas,
  };
}

const response_format = {
  type: "json_schema",
  json_schema: { name: "person", strict: true, schema: person },
};

async function schema() {
  const answer = await client.chat.completions.parse({ ...ask(wantPerson), response_format });
  return answer.choices[0].message.content;
}

async function schemaOfAnything() {
  const answer = await client.chat.completions.create({
    ...ask("Who are you?"),
    response_format,
  });
  return answer.choices[0].message.content;
}

async function refusal() {
  try {
    await client.chat.completions.create({
      ...ask(wantWeather),
      tools: [{ type: "function", function: { name: "a b" } }],
    });
  } catch (error) {
    return {
      is_bad_request: error instanceof OpenAI.BadRequestError,
      code: error.code,
      param: error.param,
    };
  }
  return null;
}

const results = {
  chat: await chat(),
  stream: await stream(),
  run_tools: await runTools(false),
  run_tools_streamed: await runTools(true),
  stream_call: await streamCall(),
  schema: await schema(),
  schema_of_anything: await schemaOfAnything(),
  refusal: await refusal(),
};
process.stdout.write(JSON.stringify(results));
