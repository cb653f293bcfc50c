// A WebSocket connection after its upgrade (RFC 6455), over any ByteStream: messages in and out, keep-alive in both
// directions, the closing handshake.
#pragma once

#include <memory>
#include <span>

#include "core/reactor.h"
#include "core/timers.h"
#include "net/byte_stream.h"
#include "proto/websocket_decoder.h"

namespace tunnel::net {

class WebSocket final : ByteStream::Handler {
 public:
  // What a channel carries. Called from the reactor's turn, never from inside a call on the socket.
  class Handler {
   public:
    // A message comes as one Begin, any number of pieces (in order, never empty), one End. Its pieces arrive as they
    // come off the wire; nothing is reassembled.
    virtual void OnMessageBegin(proto::Opcode opcode) = 0;
    virtual void OnMessageData(core::Slice piece) = 0;
    virtual void OnMessageEnd() = 0;
    // The send queue fell to low water. It need not have been full.
    virtual void OnWritable() = 0;
    // The connection is over, with the reason in words. The last call; the socket may be destroyed from it.
    virtual void OnDown(const absl::Status& reason) = 0;

   protected:
    ~Handler() = default;
  };

  struct Options {
    proto::Role role = proto::Role::kClient;  // ours
    bool check_utf8 = false;
    // Sends Pings and takes a silent peer for dead. False: the handler sees to that.
    bool keep_alive = true;
  };

  // Takes over a stream whose upgrade is done.
  WebSocket(core::Reactor& reactor, std::unique_ptr<ByteStream> stream, const Options& options);
  // Ends the connection at once if it is not over.
  ~WebSocket();

  // Starts receiving; `received` is what came behind the upgrade's head, and what is in it is handed over from inside
  // this call. `handler` must outlive the socket.
  void Start(Handler* handler, core::Slice received);

  // Sends one message made of `head` (which fits a block) and `payload`, together at most kMaxSendBytes, copied.
  void SendMessage(proto::Opcode opcode, std::span<const uint8_t> head, std::span<const uint8_t> payload) {
    SendFrame(opcode, true, head, payload);
  }
  // Sends one fragment of a message (at most kMaxSendBytes), copied. The first names text or binary, the others are
  // kContinuation, and no other message may be sent before the one with `fin`.
  void SendFragment(proto::Opcode opcode, bool fin, std::span<const uint8_t> payload) {
    SendFrame(opcode, fin, {}, payload);
  }
  [[nodiscard]] bool writable() const { return stream_ != nullptr && stream_->writable(); }

  // Counted: receiving goes on when every pause was resumed. While paused the peer is not taken for dead.
  void PauseReceive();
  void ResumeReceive();
  // Since when nothing was paused; kNever while something is. What a silence is measured from.
  [[nodiscard]] core::TimePoint receiving_since() const { return pauses_ == 0 ? receiving_since_ : core::kNever; }

  // As ByteStream::LimitUnsent.
  void LimitUnsent(unsigned bytes) {
    if (stream_ != nullptr) stream_->LimitUnsent(bytes);
  }

  // Starts the closing handshake; OnDown() follows when the peer has answered, or after kCloseLimit.
  void Close(uint16_t code, std::string_view reason);

  // Bytes sent and not yet with the kernel.
  [[nodiscard]] size_t queued_bytes() const { return stream_ == nullptr ? 0 : stream_->queued_bytes(); }

  // Ends the connection at once, with OnDown(reason). Not from inside a callback of the socket's own.
  void Drop(const absl::Status& reason) { GoDown(reason); }

  // The round trip of the last Ping; zero before the first.
  [[nodiscard]] core::Duration round_trip() const { return round_trip_; }
  [[nodiscard]] std::string peer() const { return peer_; }

  static constexpr size_t kMaxSendBytes = 2 * core::BufferPool::kMaxBlockBytes - proto::kMaxFrameHeaderBytes;

 private:
  void OnData(core::Slice data) override;
  void OnEnd() override;
  void OnDrained() override;
  void OnDead(absl::Status reason) override;

  // Copies a part of a message that begins at `offset` of it, masked in the same pass where that is our role.
  void CopyOut(uint8_t* out, std::span<const uint8_t> bytes, const proto::MaskKey& key, size_t offset) const;
  void SendFrame(proto::Opcode opcode, bool fin, std::span<const uint8_t> head, std::span<const uint8_t> payload);
  void SendControl(proto::Opcode opcode, std::span<const uint8_t> payload);
  void SendClose(uint16_t code, std::string_view reason);
  // Ends the connection, having sent what is queued, and tells the handler.
  void GoDown(const absl::Status& reason);
  void OnPingTimer();
  [[nodiscard]] proto::MaskKey NextMask();
  // The span passed to a Pong that answers our last Ping.
  void OnPong(std::span<const uint8_t> payload);

  core::Reactor& reactor_;
  std::unique_ptr<ByteStream> stream_;  // null once down
  const Options options_;
  const std::string peer_;
  proto::WebSocketDecoder decoder_;
  Handler* handler_ = nullptr;
  core::Timer ping_timer_;
  core::Timer close_timer_;
  core::TimePoint last_received_;
  core::TimePoint receiving_since_;
  core::TimePoint ping_sent_;
  uint64_t ping_number_ = 0;
  core::Duration round_trip_{};
  int pauses_ = 0;
  bool close_sent_ = false;
  absl::Status close_reason_;
  bool* destroyed_ = nullptr;  // set by the destructor while OnData() is running
};

}  // namespace tunnel::net
