// The UDP associations of one legacy channel at the server: each id has one target, and datagrams only from there.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <memory>

#include "net/datagram_assembler.h"
#include "net/datagram_opener.h"
#include "net/legacy_carrier.h"

namespace tunnel::net {

// An association lasts until UDP_CLOSE, UDP_ERROR or the end of the channel. One that is idle keeps its entry, but no
// socket: the protocol has no message that would tell the peer, which may go on sending at any time.
class LegacyServerDatagrams {
 public:
  // Both must outlive it.
  LegacyServerDatagrams(LegacyCarrier& carrier, DatagramOpener& way_out);
  LegacyServerDatagrams(const LegacyServerDatagrams&) = delete;
  LegacyServerDatagrams& operator=(const LegacyServerDatagrams&) = delete;
  ~LegacyServerDatagrams();

  // --- messages ---
  void OnConnect(const proto::LegacyHead& head);
  void OnClose(const proto::LegacyHead& head);
  // UDP_DATA: its head, its payload, its end.
  void OnData(const proto::LegacyHead& head);
  void OnPayload(core::Slice piece) { assembler_.Add(std::move(piece)); }
  void OnDataEnd();

  // Ends every association, because the channel is over.
  void Clear();

 private:
  class Association;
  void Refuse(const proto::ConnectionId& id, std::string_view reason);

  LegacyCarrier& carrier_;
  DatagramOpener& way_out_;
  absl::flat_hash_map<proto::ConnectionId, std::unique_ptr<Association>> associations_;
  // Of the UDP_DATA that is being read.
  proto::ConnectionId data_id_;
  DatagramAssembler assembler_;
};

}  // namespace tunnel::net
