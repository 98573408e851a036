// Opens messages with the AWS Encryption SDK for JavaScript, as somebody would who has none of our code.
//
// Standard input: one JSON object a line, {"mode", "message", "plaintext", "key", "name"}: what to do, the file to open,
// the file that gets the plaintext, the PEM file of an RSA key, and its kid. Standard output: for each, in the same
// order, {"error": null or its text, "context": the encryption context or null}.
//
// Modes: "whole" decrypts the message in one call. "frames" streams it a frame at a time, which keeps all whole frames
// of a message that was cut. "piped" streams the file as it comes.
'use strict'

const { createReadStream, readFileSync, writeFileSync } = require('fs')
const readline = require('readline')
const { buildDecrypt, CommitmentPolicy, NodeAlgorithmSuite, RawRsaKeyringNode } = require('@aws-crypto/client-node')
const { deserializeFactory } = require('@aws-crypto/serialize')

const NAMESPACE = 'bwc-rsa'
const FRAME_OVERHEAD = 4 + 12 + 16 // number, IV, tag
const FINAL_FRAME = 0xffffffff

const client = buildDecrypt(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
const { deserializeMessageHeader } = deserializeFactory((bytes) => Buffer.from(bytes).toString('utf8'), NodeAlgorithmSuite)

const keyring = ({ key, name }) =>
  new RawRsaKeyringNode({
    keyNamespace: NAMESPACE,
    keyName: name,
    rsaKey: { privateKey: readFileSync(key, 'utf8') },
    oaepHash: 'sha384', // for the hash and, since the SDK gives no other to OpenSSL, for MGF1
  })

/** What a decrypting stream has given so far, and how it stands. */
class Received {
  constructor(stream) {
    this.pieces = []
    this.bytes = 0
    this.context = null
    this.error = null
    this.ended = false
    this.changed = () => {}
    stream.on('MessageHeader', ({ encryptionContext }) => (this.context = encryptionContext))
    stream.on('data', (piece) => {
      this.pieces.push(piece)
      this.bytes += piece.length
      this.changed()
    })
    stream.on('error', (error) => {
      this.error = error.message
      this.changed()
    })
    stream.on('end', () => {
      this.ended = true
      this.changed()
    })
  }

  /** Resolves once there are that many bytes, an error, or the end. */
  async until(bytes) {
    while (this.bytes < bytes && this.error === null && !this.ended) {
      await new Promise((resolve) => (this.changed = resolve))
    }
  }

  get result() {
    return { plaintext: Buffer.concat(this.pieces), error: this.error, context: this.context }
  }
}

async function whole(request) {
  const { plaintext, messageHeader } = await client.decrypt(keyring(request), readFileSync(request.message))
  return { plaintext, error: null, context: messageHeader.encryptionContext }
}

// The SDK destroys its streams at an error, the end of a cut message among them, and drops what is on its way through
// them. So a frame is written only when the plaintext of the one before has come out.
async function frames(request) {
  const message = readFileSync(request.message)
  const header = deserializeMessageHeader(message)
  const stream = client.decryptUnsignedMessageStream(keyring(request))
  const received = new Received(stream)
  let at = 0
  if (header) {
    const { frameLength } = header.messageHeader
    const step = frameLength + FRAME_OVERHEAD
    at = header.headerLength + header.headerAuth.headerAuthLength
    stream.write(message.subarray(0, at))
    for (let frame = 1; received.error === null; frame += 1) {
      if (at + step > message.length || message.readUInt32BE(at) === FINAL_FRAME) break
      stream.write(message.subarray(at, at + step))
      at += step
      await received.until(frame * frameLength)
    }
  }
  if (received.error === null) stream.end(message.subarray(at))
  await received.until(Infinity)
  return received.result
}

async function piped(request) {
  const stream = client.decryptUnsignedMessageStream(keyring(request))
  const received = new Received(stream)
  createReadStream(request.message).pipe(stream)
  await received.until(Infinity)
  return received.result
}

const MODES = { whole, frames, piped }

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line)
    let result
    try {
      result = await MODES[request.mode](request)
    } catch (error) {
      result = { plaintext: Buffer.alloc(0), error: error.message, context: null }
    }
    writeFileSync(request.plaintext, result.plaintext)
    console.log(JSON.stringify({ error: result.error, context: result.context }))
  }
}

main()
