// Runs FOLDER/model.onnx on the inputs of FOLDER/feeds.json in ONNX Runtime's wasm build: node runtimes_web.mjs FOLDER
import fs from "node:fs";
import path from "node:path";
import * as ort from "onnxruntime-web";

const ARRAYS = {
  float16: Uint16Array, float32: Float32Array, float64: Float64Array, int32: Int32Array, int64: BigInt64Array, int8: Int8Array,
  uint8: Uint8Array, bool: Uint8Array,  // float16 is handed over as its bits
};
const folder = process.argv[2];
const read = (name) => fs.readFileSync(path.join(folder, name));
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(read("model.onnx"), { executionProviders: ["wasm"] });
const feeds = {};
for (const [name, { file, type, dims }] of Object.entries(JSON.parse(read("feeds.json")))) {
  const bytes = read(file);
  const data = new ARRAYS[type](bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  feeds[name] = new ort.Tensor(type, data, dims);
}
const found = {};
for (const [name, tensor] of Object.entries(await session.run(feeds))) {
  const file = `out${Object.keys(found).length}.bin`;
  fs.writeFileSync(path.join(folder, file), Buffer.from(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength));
  found[name] = { file, type: tensor.type, dims: tensor.dims };
}
fs.writeFileSync(path.join(folder, "found.json"), JSON.stringify(found));
