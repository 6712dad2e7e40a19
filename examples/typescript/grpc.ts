// gRPC compute.v1 with grpc-js; the messages come from the .proto file as it is read.
//   npx tsx grpc.ts [localhost:50051] [../../proto]
import * as grpc from "@grpc/grpc-js";
import * as loader from "@grpc/proto-loader";

const address = process.argv[2] ?? "localhost:50051";
const protos = process.argv[3] ?? "../../proto";
const model = "qwen2.5:0.5b";

const definition = loader.loadSync("compute/v1/compute.proto", { includeDirs: [protos], defaults: true });
// What is loaded at run time has no types; proto-loader-gen-types writes them where they are wanted.
const { compute } = grpc.loadPackageDefinition(definition) as any;
const client = new compute.v1.ComputeService(address, grpc.credentials.createInsecure());

const answer: any = await new Promise((resolve, reject) => {
  const request = { model, prompt: "Say hello.", options: { maxTokens: 12 }, annotations: { latencyCritical: true } };
  client.Generate(request, (error: grpc.ServiceError | null, value: unknown) => (error ? reject(error) : resolve(value)));
});
console.log("Generate:", answer.response);
console.log(`Answered by ${answer.backendUsed} - ${answer.routing.reason}`);

process.stdout.write("Stream: ");
// Metadata steers as HTTP headers do. To stop early, call cancel() on the stream.
const metadata = new grpc.Metadata();
metadata.set("x-power-efficient", "true");
const stream = client.GenerateStream({ model, prompt: "Why is the sky blue?", options: { maxTokens: 40 } }, metadata);
for await (const part of stream) {
  process.stdout.write(part.token);
  if (part.done) console.log(`\n${part.stats.tokensGenerated} tokens`);
}
client.close();
