// What both ends of a legacy channel have in common: its table of streams, and the way of a message to its stream.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/functional/any_invocable.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <vector>

#include "net/byte_stream.h"
#include "net/carrier.h"
#include "proto/legacy.h"

namespace tunnel::net {

class LegacyStream;

// The ids of a table in their own order. What ends together ends in this one: the table's depends on where memory lies,
// and a simulated history must not.
template <typename Value>
[[nodiscard]] std::vector<proto::ConnectionId> IdsInOrder(
    const absl::flat_hash_map<proto::ConnectionId, Value>& table) {
  std::vector<proto::ConnectionId> ids;
  ids.reserve(table.size());
  for (const auto& [id, value] : table) ids.push_back(id);
  std::sort(ids.begin(), ids.end(), [](const auto& a, const auto& b) { return a.view() < b.view(); });
  return ids;
}

class LegacyCarrier : public Carrier {
 public:
  using Down = absl::AnyInvocable<void(const absl::Status& reason)>;
  // `socket` must outlive the carrier. `down` is called once, last, when the channel is over; every stream has been
  // told before. The carrier may be destroyed from it.
  LegacyCarrier(core::Reactor& reactor, WebSocket& socket, proto::Role role, Down down);
  // Ends the streams that are left.
  ~LegacyCarrier() override;

  [[nodiscard]] std::string_view protocol() const override { return "legacy"; }
  [[nodiscard]] size_t streams() const override { return streams_.size(); }
  [[nodiscard]] proto::Role role() const { return role_; }
  [[nodiscard]] core::Reactor& reactor() const { return reactor_; }
  [[nodiscard]] WebSocket& socket() const { return socket_; }
  [[nodiscard]] bool up() const { return up_; }

  // Sends a message that is all head. False when its host cannot travel.
  bool SendHead(const proto::LegacyHead& head);

 protected:
  // Makes a stream of this id and owns its entry in the table; nullptr when there is one of that id or too many.
  [[nodiscard]] std::unique_ptr<LegacyStream> MakeStream(const proto::ConnectionId& id);
  [[nodiscard]] LegacyStream* Find(const proto::ConnectionId& id);
  // Payload that came to `stream` in another message than DATA.
  static void Deliver(LegacyStream& stream, core::Slice piece);

  // A message of a type that a stream does not handle by itself.
  virtual void OnHead(const proto::LegacyHead& head) = 0;
  // Payload and end of a message whose head OnHead() got.
  virtual void OnPayload(core::Slice piece) = 0;
  virtual void OnMessageComplete() = 0;
  // A message that cannot be read, but for its type and id.
  virtual void OnMalformed(const proto::LegacyHead& head) = 0;
  // DATA or CLOSE of an id that is not in the table.
  virtual void OnUnknownStream(const proto::LegacyHead& head) = 0;
  // The channel is over; before streams are told.
  virtual void OnChannelDown(const absl::Status& reason) = 0;

 private:
  friend class LegacyStream;
  void Remove(LegacyStream& stream);
  void NextEvents(const core::Slice* piece);

  void OnMessageBegin(proto::Opcode opcode) override;
  void OnMessageData(core::Slice piece) override;
  void OnMessageEnd() override;
  void OnWritable() override;
  void OnDown(const absl::Status& reason) override;
  void EndStreams(const absl::Status& reason);

  core::Reactor& reactor_;
  WebSocket& socket_;
  const proto::Role role_;
  Down down_;
  bool up_ = true;
  proto::LegacyDecoder decoder_;
  absl::flat_hash_map<proto::ConnectionId, LegacyStream*> streams_;
  // Of the message that is being read: the stream its payload goes to, while that exists.
  LegacyStream* current_ = nullptr;
  bool current_is_data_ = false;
  // Streams that met a full channel, in the order in which they are called when it has drained.
  core::IntrusiveList<LegacyStream, LegacyCarrier> waiting_;
};

// One connection id on one legacy channel, as a ByteStream.
//
// The protocol has no half-close. FinishSend() on the server sends CLOSE at once, as the original does; on the client
// it does so when the target has been silent for kLegacyHalfCloseLimit while the channel was read, so that an answer
// still comes through.
class LegacyStream final : public ByteStream, public core::ListLink<LegacyCarrier> {
 public:
  LegacyStream(LegacyCarrier& carrier, const proto::ConnectionId& id);
  ~LegacyStream() override;

  [[nodiscard]] const proto::ConnectionId& id() const { return id_; }
  // Server: tells the client that the target is connected. False when the stream is over already.
  bool Announce();

  void SetHandler(Handler* handler) override;
  void PauseReceive() override;
  void ResumeReceive() override;
  void Send(core::Slice data) override;
  [[nodiscard]] bool writable() const override;
  [[nodiscard]] size_t queued_bytes() const override { return 0; }
  void FinishSend() override;
  void CloseAfterSend(core::Duration limit) override;
  void Abort() override;
  [[nodiscard]] std::string peer() const override;

 private:
  friend class LegacyCarrier;
  // --- called by the carrier ---
  void OnPayload(core::Slice piece);
  void OnPeerClose();
  void OnChannelWritable();
  void OnChannelDown(const absl::Status& reason);

  // Keeps it for a handler that does not take it now.
  void Park(core::Slice piece);
  // Tells the peer, leaves the table. What is parked stays.
  void Leave(bool tell_peer);
  void DeliverParked();
  // Delivers `over_` when everything parked has been delivered.
  void DeliverOver();
  void UpdateChannelPause();
  void OnHalfCloseTimer();

  LegacyCarrier* carrier_;  // null once the id is closed
  core::Reactor& reactor_;
  const proto::ConnectionId id_;
  const std::string peer_;
  Handler* handler_ = nullptr;
  bool paused_ = true;
  bool finished_ = false;
  std::optional<absl::Status> over_;  // closed; told to the handler after what is parked
  std::deque<core::Slice> parked_;
  size_t parked_bytes_ = 0;
  bool channel_paused_ = false;
  core::Timer half_close_timer_;
  // Runs DeliverParked() from the reactor's turn.
  struct Deliverer final : core::Attention {
    explicit Deliverer(LegacyStream& s) : stream(s) {}
    void Attend() override { stream.DeliverParked(); }
    LegacyStream& stream;
  } deliverer_{*this};
};

}  // namespace tunnel::net
