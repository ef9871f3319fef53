/** A graph of operators as the bytes of an ONNX file. Source: the numbers of fields and types in onnx/onnx.proto. */
import { Message } from './protobuf.js'

const dataTypes = { float: 1, int32: 6, int64: 7 } as const
export type OnnxType = keyof typeof dataTypes

/** An input or an output: extents that are not known have a name. */
export interface OnnxValue {
  readonly name: string
  readonly type: OnnxType
  readonly shape: readonly (number | string)[]
}

export type OnnxAttribute =
  | { readonly int: number }
  | { readonly float: number }
  /** A type as operators take it: `Cast` to it. */
  | { readonly type: OnnxType }

export interface OnnxNode {
  readonly op: string
  /** Default: ONNX's own operators. */
  readonly domain?: string
  /** Empty: an optional one that is absent. */
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>
}

/** A constant: in the file itself, or in one beside it, because a protocol buffer ends at 2 GB. */
export interface OnnxInitializer {
  readonly name: string
  readonly type: OnnxType
  readonly shape: readonly number[]
  readonly data: Uint8Array | ExternalData
}

export interface ExternalData {
  /** Name of the file, in the folder of the model. */
  readonly location: string
  /** Bytes. */
  readonly offset: number
  readonly length: number
}

export interface OnnxModel {
  readonly name: string
  readonly nodes: readonly OnnxNode[]
  readonly inputs: readonly OnnxValue[]
  readonly outputs: readonly OnnxValue[]
  readonly initializers: readonly OnnxInitializer[]
  /** Domain to version; `''` is ONNX's own. */
  readonly operatorSets: Readonly<Record<string, number>>
}

/** Version of the format: the one that came with operator set 17. */
const irVersion = 8

/** ModelProto. */
export function encodeModel(model: OnnxModel): Uint8Array {
  const graph = new Message()
  for (const node of model.nodes) graph.message(1, nodeProto(node))
  graph.string(2, model.name)
  for (const initializer of model.initializers) graph.message(5, tensorProto(initializer))
  for (const input of model.inputs) graph.message(11, valueInfoProto(input))
  for (const output of model.outputs) graph.message(12, valueInfoProto(output))
  const message = new Message().varint(1, irVersion).string(2, 'alma-native bench').message(7, graph)
  for (const [domain, version] of Object.entries(model.operatorSets)) {
    message.message(8, new Message().string(1, domain).varint(2, version))
  }
  return message.finish()
}

/** NodeProto. It is named by its first output. */
function nodeProto({ op, domain, inputs, outputs, attributes = {} }: OnnxNode): Message {
  const message = new Message()
  for (const input of inputs) message.string(1, input)
  for (const output of outputs) message.string(2, output)
  message.string(3, `${outputs[0]}/${op}`).string(4, op)
  for (const [name, attribute] of Object.entries(attributes)) message.message(5, attributeProto(name, attribute))
  if (domain !== undefined) message.string(7, domain)
  return message
}

/** AttributeProto. */
function attributeProto(name: string, attribute: OnnxAttribute): Message {
  const message = new Message().string(1, name)
  if ('float' in attribute) return message.float(2, attribute.float).varint(20, 1)
  return message.varint(3, 'int' in attribute ? attribute.int : dataTypes[attribute.type]).varint(20, 2)
}

/** TensorProto. */
function tensorProto({ name, type, shape, data }: OnnxInitializer): Message {
  const message = new Message()
  for (const extent of shape) message.varint(1, extent)
  message.varint(2, dataTypes[type]).string(8, name)
  if (data instanceof Uint8Array) return message.bytes(9, data)
  for (const [key, value] of Object.entries(data))
    message.message(13, new Message().string(1, key).string(2, `${value}`))
  return message.varint(14, 1)
}

/** ValueInfoProto with TypeProto.Tensor and TensorShapeProto. */
function valueInfoProto({ name, type, shape }: OnnxValue): Message {
  const extents = new Message()
  for (const extent of shape) {
    const dimension = new Message()
    extents.message(1, typeof extent === 'number' ? dimension.varint(1, extent) : dimension.string(2, extent))
  }
  const tensor = new Message().varint(1, dataTypes[type]).message(2, extents)
  return new Message().string(1, name).message(2, new Message().message(1, tensor))
}
