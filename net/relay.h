// Joins two byte streams: what one receives the other sends, with backpressure both ways, until both are over.
#pragma once

#include <absl/functional/any_invocable.h>

#include <memory>

#include "core/intrusive_list.h"
#include "core/reactor.h"
#include "net/byte_stream.h"

namespace tunnel::net {

// The pairs of one core. Each ends by itself: a half-close is passed on, an orderly close flushes the other side, a
// death resets it. Destroying the set aborts what runs. Owner core only.
class RelaySet {
 public:
  explicit RelaySet(core::Reactor& reactor) : reactor_(reactor) {}
  RelaySet(const RelaySet&) = delete;
  RelaySet& operator=(const RelaySet&) = delete;
  ~RelaySet();

  // Takes both streams and starts. `tunnel` is the side towards the channel, `outside` the application or the target;
  // only the counters tell them apart. `outside_ended`: its end of stream was seen, and passed on, before.
  void Start(std::unique_ptr<ByteStream> tunnel, std::unique_ptr<ByteStream> outside, bool outside_ended = false);
  // Relays that run, and holds.
  [[nodiscard]] size_t size() const { return size_; }

  // Counts as a relay while it lives: something else carries an application's bytes, and stopping waits for it.
  class Hold {
   public:
    explicit Hold(RelaySet& set) : set_(set) { ++set.size_; }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold() { set_.LetGo(); }

   private:
    RelaySet& set_;
  };

  // Called whenever the last relay or hold has ended.
  void SetEmptied(absl::AnyInvocable<void()> emptied) { emptied_ = std::move(emptied); }

 private:
  class Relay;
  void Ended(Relay& relay);
  void LetGo();

  core::Reactor& reactor_;
  core::IntrusiveList<Relay, RelaySet> relays_;
  size_t size_ = 0;
  absl::AnyInvocable<void()> emptied_;
};

}  // namespace tunnel::net
