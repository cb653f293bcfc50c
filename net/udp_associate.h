// SOCKS5 UDP ASSOCIATE (RFC 1928 sections 4 and 7): a relay socket for each association that an application asked for.
#pragma once

#include <memory>

#include "core/datagram_socket.h"
#include "core/intrusive_list.h"
#include "net/byte_stream.h"
#include "net/datagram_opener.h"

namespace tunnel::net {

// The relays of one core. Each is bound on the address its control connection arrived at, takes datagrams only from
// that connection's peer (or the address its request named) and, from the first good one on, from one port of it, and
// dies with the connection. What is malformed (datagrams_malformed) or from elsewhere (datagrams_foreign) is dropped
// and counted. Owner core only.
class UdpAssociateSet {
 public:
  UdpAssociateSet(core::Reactor& reactor, DatagramOpener& opener) : reactor_(reactor), opener_(opener) {}
  UdpAssociateSet(const UdpAssociateSet&) = delete;
  UdpAssociateSet& operator=(const UdpAssociateSet&) = delete;
  ~UdpAssociateSet() { CloseAll(); }

  // Answers the request that was read from `control`, whose handler was detached: with the relay's address, or a
  // failure, after which it is closed; always one where the connection came over a Unix socket. `local` and `peer` are
  // the connection's ends; `expected` is the request's address, all zeros where the application does not say from where
  // it will send.
  void Start(std::unique_ptr<ByteStream> control, const core::SocketAddress& local, const core::SocketAddress& peer,
             const proto::Target& expected);
  void CloseAll();
  [[nodiscard]] size_t size() const { return size_; }

 private:
  class Relay;
  void Ended(Relay& relay);

  core::Reactor& reactor_;
  DatagramOpener& opener_;
  core::IntrusiveList<Relay, UdpAssociateSet> relays_;
  size_t size_ = 0;
};

}  // namespace tunnel::net
