// A handler of byte streams that remembers what it is told; functions may be added to act on it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>

#include "net/byte_stream.h"

namespace tunnel::net {

class StreamRecorder final : public ByteStream::Handler {
 public:
  void OnData(core::Slice data) override {
    EXPECT_FALSE(data.empty());
    EXPECT_EQ(ends, 0) << "data behind the end";
    EXPECT_FALSE(dead.has_value()) << "data of the dead";
    ++calls;
    received += data.text();
    if (on_data) on_data();
  }
  void OnEnd() override {
    EXPECT_FALSE(dead.has_value());
    ++ends;
    EXPECT_EQ(ends, 1);
    if (on_end) on_end();
  }
  void OnDrained() override {
    EXPECT_FALSE(dead.has_value());
    ++drains;
    if (on_drained) on_drained();
  }
  void OnDead(absl::Status reason) override {
    EXPECT_FALSE(dead.has_value()) << "the last call came twice";
    dead = std::move(reason);
    if (on_dead) on_dead();
  }

  std::string received;
  int calls = 0;
  int ends = 0;
  int drains = 0;
  std::optional<absl::Status> dead;
  // Each may destroy the stream, and replace itself.
  std::function<void()> on_data;
  std::function<void()> on_end;
  std::function<void()> on_drained;
  std::function<void()> on_dead;
};

}  // namespace tunnel::net
