// The far end of a WebSocket: records what it is told and says what the test wants said.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/web_socket.h"

namespace tunnel::net {

class MessagePeer final : public WebSocket::Handler {
 public:
  MessagePeer(core::Reactor& reactor, std::unique_ptr<ByteStream> stream, proto::Role role)
      : socket_(std::make_unique<WebSocket>(reactor, std::move(stream), WebSocket::Options{.role = role})) {
    socket_->Start(this, core::Slice());
  }

  void OnMessageBegin(proto::Opcode opcode) override {
    EXPECT_FALSE(in_message_);
    in_message_ = true;
    message_ = opcode == proto::Opcode::kText ? "t " : "b ";
    if (on_begin) on_begin();
  }
  void OnMessageData(core::Slice piece) override {
    EXPECT_TRUE(in_message_);
    EXPECT_FALSE(piece.empty());
    ++pieces;
    message_ += piece.text();
    if (on_data) on_data();
  }
  void OnMessageEnd() override {
    EXPECT_TRUE(std::exchange(in_message_, false));
    messages.push_back(std::move(message_));
    if (on_message) on_message();
  }
  void OnWritable() override {
    ++writables;
    if (on_writable) on_writable();
  }
  void OnDown(const absl::Status& reason) override {
    EXPECT_FALSE(down.has_value()) << "the last call came twice";
    down = reason;
    if (on_down) on_down();
  }

  void Say(std::string_view text) { Send(proto::Opcode::kText, text); }
  void SayBinary(std::string_view bytes) { Send(proto::Opcode::kBinary, bytes); }
  [[nodiscard]] WebSocket& socket() { return *socket_; }
  void Destroy() { socket_.reset(); }

  // The messages since the last call, each as "t TEXT" or "b BYTES".
  std::vector<std::string> Take() { return std::exchange(messages, {}); }

  std::vector<std::string> messages;
  int pieces = 0;
  int writables = 0;
  std::optional<absl::Status> down;
  // Each may destroy the socket.
  std::function<void()> on_begin;
  std::function<void()> on_data;
  std::function<void()> on_message;
  std::function<void()> on_writable;
  std::function<void()> on_down;

 private:
  void Send(proto::Opcode opcode, std::string_view text) {
    socket_->SendMessage(opcode, {}, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }

  bool in_message_ = false;
  std::string message_;
  std::unique_ptr<WebSocket> socket_;
};

}  // namespace tunnel::net
