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
inline constexpr core::Duration kDialLimit = std::chrono::seconds(10);
inline constexpr core::Duration kBackOffMin = std::chrono::milliseconds(250);
inline constexpr core::Duration kBackOffMax = std::chrono::seconds(30);
// No more than this while streams wait for a channel, which they do for kMuxResumeLimit only.
inline constexpr core::Duration kBackOffStranded = std::chrono::seconds(1);
// A channel that is lost sooner than this counts as a dial that failed, or a server that takes channels and drops them
// would be dialled without pause.
inline constexpr core::Duration kChannelHolds = kPingInterval;
// Between the dials of one core's channels: middleboxes freeze clients that open several TLS connections at once.
inline constexpr core::Duration kDialSpacing = std::chrono::milliseconds(100);
// One that takes longer than this, and as much again by chance, holds up the others no more.
inline constexpr core::Duration kDialPatience = std::chrono::seconds(2);
inline constexpr uint64_t kMaxMessageBytes = uint64_t{1} << 20;
// A channel of mux/2 is replaced at this age, less a random quarter: middleboxes and CDNs cut connections that are
// older than half an hour or an hour.
inline constexpr core::Duration kChannelAge = std::chrono::minutes(25);
// When that is tried again where no other could be dialled.
inline constexpr core::Duration kReplaceAgain = std::chrono::minutes(1);
// Connections that a channel keeps beside its own for streams which could not be moved.
inline constexpr size_t kRetiredLinks = 8;

// --- what is known of the server ---
// Taken of an address's TTL: a short one would mean a lookup a dial, a long one an address that moved long ago.
inline constexpr core::Duration kShortestAddressTtl = std::chrono::seconds(30);
inline constexpr core::Duration kLongestAddressTtl = std::chrono::hours(1);
// One lookup, all its questions together.
inline constexpr core::Duration kLookupLimit = std::chrono::seconds(15);
// Between lookups that nothing but failed dials asked for.
inline constexpr core::Duration kLookupSpacing = std::chrono::seconds(5);
// After a lookup that failed the next waits this long, and twice as long after each that fails too, less half by lot.
inline constexpr core::Duration kLookupBackOffMin = std::chrono::seconds(1);
inline constexpr core::Duration kLookupBackOffMax = std::chrono::seconds(60);
// A dial whose addresses or list failed the last time waits for a lookup that is going on, and no longer than this.
inline constexpr core::Duration kSuspectWait = std::chrono::seconds(1);
// Times alone are not written more often than this: a TTL of a minute would wear a router's flash out.
inline constexpr std::chrono::seconds kSaveInterval = std::chrono::hours(1);
// While another process writes the file; it is let be after so many attempts.
inline constexpr core::Duration kSaveAgain = std::chrono::seconds(1);
inline constexpr unsigned kSaveAttempts = 5;

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

// --- mux/2 ---
// What a peer may send on a stream before it is told more; the same for every stream, since the negotiation says it.
inline constexpr uint64_t kMuxFirstWindowBytes = uint64_t{256} * 1024;
// 1 Gbit/s over 100 ms is 12.5 MB.
inline constexpr uint64_t kMuxMaxWindowBytes = uint64_t{16} * 1024 * 1024;
static_assert(kMuxMaxWindowBytes % kMuxFirstWindowBytes == 0);
inline constexpr core::Duration kMuxIdleWindowLimit = std::chrono::seconds(10);
// CREDIT goes out at the latest when this much was consumed, or a quarter of the window, ...
inline constexpr uint64_t kMuxMaxCreditStepBytes = uint64_t{256} * 1024;
// ... or this long after something was: it is what lets the sender forget its bytes.
inline constexpr core::Duration kMuxCreditDelay = std::chrono::milliseconds(250);
// For each core: how far windows may grow together beyond their first size, and what streams may keep together. At the
// second, streams that keep something take no more from their applications, and new ones are refused; so streams keep
// at most that and one read each.
inline constexpr size_t kMuxWindowBudgetBytes = size_t{256} * 1024 * 1024;
inline constexpr size_t kMuxHeldBudgetBytes = size_t{512} * 1024 * 1024;
// What a stream takes from its application without being able to send it; it asks for more at low water.
inline constexpr size_t kMuxUnsentHighBytes = size_t{256} * 1024;
inline constexpr size_t kMuxUnsentLowBytes = size_t{64} * 1024;
// A stream's turn on its channel, and the payload of one DATA. A frame of this size with its heads is one TLS record.
inline constexpr size_t kMuxQuantumBytes = size_t{32} * 1024;
inline constexpr size_t kMuxDataBytes = size_t{16} * 1024 - 16;
// What a channel hands to its socket ahead of the network: above this bulk waits in its streams, so that what comes
// next is not late. More than the low water at which a socket asks for more.
inline constexpr size_t kMuxChannelQueueBytes = size_t{192} * 1024;
static_assert(kMuxChannelQueueBytes > core::kSendLowWaterBytes);
// What the kernel takes of it beyond what the network has taken: half of it is what a sleeping socket wakes up at.
inline constexpr unsigned kMuxKernelUnsentBytes = unsigned{128} * 1024;
// Frames of control are sent whatever is queued; a peer that makes us send them and does not read is cut off here.
inline constexpr size_t kMuxControlBacklogBytes = size_t{1024} * 1024;
// Datagrams that wait for a channel; beyond it the oldest is dropped.
inline constexpr size_t kMuxDatagramQueueBytes = size_t{256} * 1024;
// Streams that a session may have at once, and connects to targets in progress.
inline constexpr size_t kMuxStreamsPerSession = size_t{16} * 1024;
inline constexpr size_t kMuxConnectsPerSession = 1024;
// OPENs of a session: this many at once, and this many a second in the long run.
inline constexpr unsigned kMuxOpenBurst = 8192;
inline constexpr unsigned kMuxOpensPerSecond = 16 * 1024;
// Listeners that a server keeps for one session, and how often one that is out of room looks for some.
inline constexpr size_t kMuxListenersPerSession = 64;
inline constexpr core::Duration kMuxListenerPause = std::chrono::milliseconds(100);
// Between a client's attempts to have a reverse forward listened for.
inline constexpr core::Duration kReverseRetryMin = std::chrono::seconds(1);
inline constexpr core::Duration kReverseRetryMax = std::chrono::seconds(10);
// Epochs of which a client remembers what ids their servers have used.
inline constexpr size_t kMuxEpochsRemembered = 8;
// Streams of a reverse forward that are here before the server has said where it listens.
inline constexpr size_t kReverseWaiting = 256;
// Sessions that a server keeps on one core.
inline constexpr size_t kMuxSessionsPerCore = 4096;
// How long a stream is kept without a channel.
inline constexpr core::Duration kMuxResumeLimit = std::chrono::seconds(30);
// A channel that answers nothing for this long (and for as long as what is queued takes) is asked with a PING; when
// that is not answered for as long again while other channels deliver, it is frozen. Long enough for a host that is
// overloaded.
inline constexpr core::Duration kMuxSilenceLimit = std::chrono::seconds(1);
// One that answers nothing for this long is dead, also where it is the only one: what waits for it has to go on before
// kOpenLimit.
inline constexpr core::Duration kMuxDeadLimit = std::chrono::seconds(10);
static_assert(kMuxDeadLimit + kBackOffStranded < kOpenLimit);
// PINGs that may be unanswered before a channel is dead on which nothing is waited for.
inline constexpr unsigned kMuxMissedPongs = 2;

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
// What waits for one target to be resolved, or for a proxy to be asked for an association with any number of them.
inline constexpr size_t kWaitingDatagrams = 256;
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
