// A yamux peer on yamux-js from npm, for the interoperation tests.
//
//   node peer.js MODULE PATH ROLE MODE [COUNT] [SIZE]
//
// MODULE is where yamux-js lies; PATH is a unix socket to connect to. MODE is `echo` or `drive`, as in the Go peer.
//
// yamux-js 0.2.0 takes for granted that each chunk it is given holds whole frames, so a stage in front of it regroups
// what the socket delivers. It ignores FIN (its readers never end), so both modes count bytes instead.
'use strict';

const net = require('net');
const crypto = require('crypto');
const { Transform } = require('stream');

const [module_path, path, role, mode, count = '1', size = '0'] = process.argv.slice(2);
const { Client, Server } = require(module_path);

const HEADER_BYTES = 12;

class WholeFrames extends Transform {
  constructor() {
    super();
    this.waiting = Buffer.alloc(0);
  }

  _transform(chunk, encoding, done) {
    this.waiting = Buffer.concat([this.waiting, chunk]);
    for (;;) {
      if (this.waiting.length < HEADER_BYTES) return done();
      const payload = this.waiting[1] === 0 ? this.waiting.readUInt32BE(8) : 0;
      const end = HEADER_BYTES + payload;
      if (this.waiting.length < end) return done();
      this.push(this.waiting.subarray(0, end));
      this.waiting = this.waiting.subarray(end);
    }
  }
}

function say(...words) {
  console.log(words.join(' '));
}

function fail(error) {
  console.error(String(error && error.stack ? error.stack : error));
  process.exit(1);
}

function echo(stream) {
  stream.on('error', () => {});
  stream.on('data', (data) => stream.write(data));
}

function roundTrip(session, bytes) {
  return new Promise((resolve, reject) => {
    const payload = crypto.randomBytes(bytes);
    const received = [];
    let length = 0;
    const stream = session.open();
    stream.on('error', reject);
    stream.on('data', (data) => {
      received.push(data);
      length += data.length;
      if (length < bytes) return;
      stream.close();
      if (Buffer.concat(received).equals(payload)) resolve();
      else reject(new Error('the bytes that came back differ'));
    });
    stream.write(payload);
  });
}

async function drive(session) {
  await Promise.all(Array.from({ length: Number(count) }, () => roundTrip(session, Number(size))));
  session.ping();
  say('drove', count, size);
  session.goAway(0);
}

const quiet = { enableKeepAlive: false, logger: () => {} };
const session = role === 'client' ? new Client(quiet) : new Server(echo, quiet);
session.onStream = echo;
session.on('error', fail);
process.on('unhandledRejection', fail);

const socket = net.connect(path, () => {
  say('up');
  socket.on('error', () => {});
  socket.on('close', () => {
    say('ended');
    process.exit(0);
  });
  socket.pipe(new WholeFrames()).pipe(session).pipe(socket);
  if (mode === 'drive') drive(session).catch(fail);
});
