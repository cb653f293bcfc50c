// Bounds and times of net/ in one place, with how they relate.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/limits.h"
#include "core/time.h"

namespace tunnel::net {

// --- before a connection is a channel or a stream ---
// From accept to the end of the upgrade, of the SOCKS5 or HTTP negotiation: slower peers are cut off.
inline constexpr core::Duration kNegotiationLimit = std::chrono::seconds(10);
// Connections of one core that are not through that yet, servers' and listeners' alike; more are refused at once.
inline constexpr int64_t kNegotiationsPerCore = 4096;
// A request on a kept-alive connection of -serve-dns or of the HTTP proxy may let this long pass after the last.
inline constexpr core::Duration kIdleRequestLimit = std::chrono::seconds(30);

// --- channels ---
inline constexpr core::Duration kPingInterval = std::chrono::seconds(10);
// Nothing heard from the peer, Pings and Pongs included, for this long: dead. Three intervals: one may be lost.
inline constexpr core::Duration kDeadPeerLimit = std::chrono::seconds(30);
static_assert(kDeadPeerLimit >= 3 * kPingInterval);
// How long a Close waits for the peer's.
inline constexpr core::Duration kCloseLimit = std::chrono::seconds(3);
inline constexpr core::Duration kDialLimit = std::chrono::seconds(15);
inline constexpr core::Duration kBackOffMin = std::chrono::milliseconds(250);
inline constexpr core::Duration kBackOffMax = std::chrono::seconds(30);
// A channel that is lost sooner than this counts as a dial that failed, or a server that takes channels and drops them
// would be dialled without pause.
inline constexpr core::Duration kChannelHolds = kPingInterval;
// Between the dials of one core's channels: middleboxes freeze clients that open several TLS connections at once.
inline constexpr core::Duration kDialSpacing = std::chrono::milliseconds(100);
inline constexpr uint64_t kMaxMessageBytes = uint64_t{1} << 20;

// --- streams ---
// Payload of one DATA message; what the original sends at most.
inline constexpr size_t kDataMessageBytes = size_t{32} * 1024;
// What a stream keeps for an application or target that does not take it, beside that socket's own queue; beyond it the
// channel stops reading.
inline constexpr size_t kParkedStreamBytes = size_t{256} * 1024;
// Channels of one source address unless -channels-per-source says otherwise: hundreds of clients behind one NAT.
inline constexpr unsigned kChannelsPerSource = 1024;
// Streams one channel carries at most; a further one is answered with CLOSE.
inline constexpr size_t kStreamsPerChannel = size_t{16} * 1024;
// Connects to targets in progress on one core.
inline constexpr int64_t kConnectsPerCore = 1024;
// From a listener's CONNECT to the target's answer.
inline constexpr core::Duration kOpenLimit = std::chrono::seconds(15);
inline constexpr core::Duration kTargetConnectLimit = std::chrono::seconds(10);
static_assert(kTargetConnectLimit < kOpenLimit, "the server's reason must reach the client");
// While the outbound proxy cannot be used the log says so this often.
inline constexpr core::Duration kProxyWarningInterval = std::chrono::seconds(10);
// How long a closed socket may take to deliver what is queued.
inline constexpr core::Duration kFlushLimit = std::chrono::seconds(30);
// The legacy protocol has no half-close: after the application's end of stream the stream is closed once the target has
// been silent for this long, so that an answer in progress still comes through.
inline constexpr core::Duration kLegacyHalfCloseLimit = std::chrono::seconds(2);

// --- datagrams ---
// An association, and each of its targets, is let go of when nothing passed for this long: the least that RFC 4787
// REQ-5 has.
inline constexpr core::Duration kAssociationIdleLimit = std::chrono::seconds(120);
inline constexpr size_t kTargetsPerAssociation = 256;
// One legacy association is one target of an application, so a channel may have many.
inline constexpr size_t kAssociationsPerChannel = 2048;
inline constexpr int64_t kAssociationsPerCore = 8192;
static_assert(kAssociationsPerChannel >= kTargetsPerAssociation);
// Senders that one udp:// listener tells apart; a further one takes the place of who was silent longest. A resolver
// that asks each question from a port of its own has so many under way.
inline constexpr size_t kSendersPerUdpForward = 1024;
static_assert(kAssociationsPerChannel >= kSendersPerUdpForward);
// What waits for one target to be resolved.
inline constexpr size_t kWaitingDatagrams = 32;
inline constexpr size_t kWaitingDatagramBytes = size_t{128} * 1024;
// A target that was refused is not asked about again for this long, however much is sent to it.
inline constexpr core::Duration kRefusedTargetLimit = std::chrono::seconds(5);

// --- HTTP forwarding ---
// Chunks smaller than this are copied together with their heads; larger ones are passed on as they lie.
inline constexpr size_t kCopiedChunkBytes = size_t{2} * 1024;
inline constexpr size_t kChunkBlockBytes = size_t{16} * 1024;
static_assert(kCopiedChunkBytes < kChunkBlockBytes);
// Interim responses to one request: they are forwarded at once, whether or not the client reads.
inline constexpr int kInterimResponses = 32;

// --- stopping ---
inline constexpr core::Duration kDrainLimit = std::chrono::seconds(30);

}  // namespace tunnel::net
