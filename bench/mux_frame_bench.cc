// Frames of mux/2, written and read, beside what the format alone would cost: storing and loading eight bytes. Bytes
// per second count the payload, which is never touched. The label begins with a checksum of what was read or written.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/check.h"
#include "proto/mux_decoder.h"

namespace {

using namespace tunnel::proto;

constexpr uint32_t kStream = 0x1234'5677;

std::string Checksum(std::span<const uint8_t> bytes) {
  uint64_t hash = 0xCBF29CE484222325;  // FNV-1a
  for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001B3;
  return fmt::format("{:016x}", hash);
}

void SetPayload(benchmark::State& state, size_t payload) {
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(payload));
}

std::vector<uint8_t> Message(const MuxFrame& frame, size_t payload) {
  std::vector<uint8_t> message(kMuxMaxHeadBytes);
  message.resize(EncodeMuxFrame(message, Role::kClient, frame).value());
  message.resize(message.size() + payload, 0x5A);
  return message;
}

// What a channel does with one message that came in pieces of `piece` bytes; the sum of what it saw.
uint64_t ReadMessage(MuxDecoder& decoder, std::span<const uint8_t> message, size_t piece) {
  uint64_t sum = 0;
  const auto drain = [&] {
    for (;;) {
      const MuxDecoder::Event event = decoder.Next();
      switch (event.kind) {
        case MuxDecoder::EventKind::kNeedMore:
          return;
        case MuxDecoder::EventKind::kFrame:
          sum += decoder.frame().stream;
          break;
        case MuxDecoder::EventKind::kPayload:
          sum += event.payload.size();
          break;
        case MuxDecoder::EventKind::kEnd:
          sum += 1;
          break;
        case MuxDecoder::EventKind::kError:
          TUNNEL_CHECK(false);
      }
    }
  };
  decoder.Begin(Opcode::kBinary);
  while (!message.empty()) {
    const auto part = message.first(std::min(piece, message.size()));
    message = message.subspan(part.size());
    decoder.Feed(part);
    drain();
  }
  decoder.Finish();
  drain();
  return sum;
}

void Decode(benchmark::State& state, const MuxFrame& frame, size_t payload, size_t piece) {
  const std::vector<uint8_t> message = Message(frame, payload);
  MuxDecoder decoder(Role::kServer);
  uint64_t sum = 0;
  for (auto _ : state) {
    sum = ReadMessage(decoder, message, piece);
    benchmark::DoNotOptimize(sum);
  }
  SetPayload(state, payload);
  state.SetLabel(fmt::format("{:016x}", sum));
}

void BM_StoreHead(benchmark::State& state) {
  std::array<uint8_t, kMuxDataHeadBytes> out{};
  for (auto _ : state) {
    StoreBig64(out.data(), uint64_t{3} << 56 | kStream);
    benchmark::DoNotOptimize(out);
  }
  SetPayload(state, 0);
  state.SetLabel(Checksum(out));
}

void BM_EncodeDataHead(benchmark::State& state) {
  std::array<uint8_t, kMuxDataHeadBytes> out{};
  for (auto _ : state) {
    EncodeMuxDataHead(out, kStream, false);
    benchmark::DoNotOptimize(out);
  }
  SetPayload(state, static_cast<size_t>(state.range(0)));
  state.SetLabel(Checksum(out));
}

void Encode(benchmark::State& state, const MuxFrame& frame) {
  std::array<uint8_t, kMuxMaxHeadBytes> out{};
  size_t size = 0;
  for (auto _ : state) {
    size = EncodeMuxFrame(out, Role::kClient, frame).value();
    benchmark::DoNotOptimize(out);
  }
  SetPayload(state, 0);
  state.SetLabel(Checksum(std::span(out).first(size)));
}

const Target kName{.host = "www.example.com", .port = 443};
const Target kAddress{.host = "192.0.2.1", .port = 443};
const MuxFrame kData{.type = MuxType::kData, .stream = kStream};
const MuxFrame kCredit{.type = MuxType::kCredit, .stream = kStream, .offset = 1 << 20, .limit = 1 << 21};
const MuxFrame kOpen{.type = MuxType::kOpen, .stream = kStream, .limit = 1 << 18, .address = &kName};
const MuxFrame kDatagram{.type = MuxType::kDatagram, .stream = kStream, .address = &kAddress};

void BM_EncodeGeneral(benchmark::State& state) { Encode(state, kData); }
void BM_EncodeCredit(benchmark::State& state) { Encode(state, kCredit); }
void BM_EncodeOpen(benchmark::State& state) { Encode(state, kOpen); }
void BM_EncodeDatagram(benchmark::State& state) { Encode(state, kDatagram); }

// The first argument is the payload, the second the size of the pieces it comes in.
void BM_DecodeData(benchmark::State& state) {
  Decode(state, kData, static_cast<size_t>(state.range(0)), static_cast<size_t>(state.range(1)));
}
void BM_DecodeCredit(benchmark::State& state) { Decode(state, kCredit, 0, 1 << 20); }
void BM_DecodeOpen(benchmark::State& state) { Decode(state, kOpen, 500, 1 << 20); }
void BM_DecodeDatagram(benchmark::State& state) { Decode(state, kDatagram, 1200, 1 << 20); }

BENCHMARK(BM_StoreHead);
BENCHMARK(BM_EncodeDataHead)->Arg(16 << 10);
BENCHMARK(BM_EncodeGeneral);
BENCHMARK(BM_EncodeCredit);
BENCHMARK(BM_EncodeOpen);
BENCHMARK(BM_EncodeDatagram);
BENCHMARK(BM_DecodeData)
    ->ArgNames({"payload", "piece"})
    ->Args({64, 1 << 20})
    ->Args({1300, 1 << 20})
    ->Args({16 << 10, 1 << 20})
    ->Args({16 << 10, 4 << 10})
    ->Args({64 << 10, 16 << 10});
BENCHMARK(BM_DecodeCredit);
BENCHMARK(BM_DecodeOpen);
BENCHMARK(BM_DecodeDatagram);

}  // namespace

BENCHMARK_MAIN();
