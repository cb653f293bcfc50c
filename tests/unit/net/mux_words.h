// Frames of mux/2 as a test writes them, and as it reads them: in words.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "core/status.h"
#include "proto/mux_decoder.h"
#include "proto/mux_frame.h"

namespace tunnel::net {

inline std::string Encoded(proto::Role role, const proto::MuxFrame& frame, std::string_view payload = {}) {
  std::array<uint8_t, proto::kMuxMaxHeadBytes> head{};
  const std::optional<size_t> size = proto::EncodeMuxFrame(head, role, frame);
  EXPECT_TRUE(size.has_value());
  return std::string(reinterpret_cast<const char*>(head.data()), size.value_or(0)) + std::string(payload);
}

// "TYPE stream" of a frame, with what matters of it.
inline std::string Words(proto::Role reader, std::string_view message) {
  proto::MuxDecoder decoder(reader);
  decoder.Begin(proto::Opcode::kBinary);
  decoder.Feed({reinterpret_cast<const uint8_t*>(message.data()), message.size()});
  decoder.Finish();
  std::string words;
  for (;;) {
    const proto::MuxDecoder::Event event = decoder.Next();
    const proto::MuxFrame& frame = decoder.frame();
    switch (event.kind) {
      case proto::MuxDecoder::EventKind::kFrame:
        words = fmt::format("{} {}", proto::NameOf(frame.type), frame.stream);
        if (frame.type == proto::MuxType::kOpened) words += fmt::format(" status={}", frame.status);
        if (frame.type == proto::MuxType::kReset) words += fmt::format(" code={}", frame.code);
        if (frame.type == proto::MuxType::kResumed || frame.type == proto::MuxType::kResume) {
          words += fmt::format(" generation={} received={}", frame.generation, frame.offset);
        }
        if (frame.fin) words += " fin";
        break;
      case proto::MuxDecoder::EventKind::kPayload:
        words += fmt::format(
            " {}", std::string_view(reinterpret_cast<const char*>(event.payload.data()), event.payload.size()));
        break;
      case proto::MuxDecoder::EventKind::kEnd:
      case proto::MuxDecoder::EventKind::kNeedMore:
        return words;
      case proto::MuxDecoder::EventKind::kError:
        return fmt::format("broken: {}", event.reason);
    }
  }
}

}  // namespace tunnel::net
