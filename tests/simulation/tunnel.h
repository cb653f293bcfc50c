// The program under test, in a simulated world: the services of net/ on the cores of a client and of a server, put
// together as client_service and server_service do, without their threads, files, DNS and DoH.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/sim_world.h"
#include "net/config.h"
#include "stream_plan.h"

namespace tunnel::simulation {

class ClientSide;
class ServerSide;
// What a server is by: its certificate and its ECH key. Made once a process, for both cost much.
class ServerIdentity;
[[nodiscard]] const ServerIdentity& TheServerIdentity();

struct TunnelPlan {
  unsigned client_cores = 1;
  unsigned server_cores = 1;
  unsigned channels = 2;
  unsigned associations = 0;  // that applications have at most
  // kAuto: the first of the server's cores knows both, the others the legacy protocol only, as different servers behind
  // one address would; each has channels and streams of its own.
  net::Protocol protocol = net::Protocol::kLegacy;
};

[[nodiscard]] CarrierTraits TraitsOf(net::Protocol protocol);

inline constexpr const char* kClientIp = "198.51.100.1";
inline constexpr const char* kServerIp = "203.0.113.1";
inline constexpr const char* kTargetIp = "203.0.113.77";
inline constexpr const char* kTargetName = "target.sim";
inline constexpr uint16_t kServerPort = 443;
inline constexpr uint16_t kSocksPort = 1080;
// Stream number n comes in by kFirstForwardPort + n, unless by SOCKS5, and goes to kFirstTargetPort + n.
inline constexpr uint16_t kFirstForwardPort = 10000;
inline constexpr uint16_t kFirstTargetPort = 20000;

class Tunnel {
 public:
  // `streams`: how many forward listeners there are. All must outlive it.
  Tunnel(core::SimWorld& world, core::SimHost client, core::SimHost server, const TunnelPlan& plan, uint32_t streams);
  Tunnel(const Tunnel&) = delete;
  Tunnel& operator=(const Tunnel&) = delete;
  ~Tunnel();

  // In the order of the cores, the client's first.
  [[nodiscard]] const std::vector<core::Reactor*>& reactors() const { return reactors_; }
  [[nodiscard]] unsigned channels_up() const;
  // Begins to stop, as a signal does; stopped() when it is done.
  void Stop();
  [[nodiscard]] bool stopped() const { return stopped_ == reactors_.size(); }
  // Destroys the services, which must have stopped; what their reactors still count is a leak. Empty: none.
  [[nodiscard]] std::string EndAndFindLeaks();
  // Bytes that a core may hold in its buffer pool at most, with all streams and associations on it.
  [[nodiscard]] size_t MemoryBudget() const;

 private:
  core::SimWorld& world_;
  const TunnelPlan plan_;
  const uint32_t streams_;
  net::Config client_config_;
  net::Config server_config_;
  net::Config legacy_server_config_;
  std::vector<std::unique_ptr<core::Reactor>> client_reactors_;
  std::vector<std::unique_ptr<core::Reactor>> server_reactors_;
  std::vector<core::Reactor*> reactors_;
  std::unique_ptr<struct ServerSharing> sharing_;
  std::vector<std::unique_ptr<ServerSide>> servers_;
  std::vector<std::unique_ptr<ClientSide>> clients_;
  size_t stopped_ = 0;
};

}  // namespace tunnel::simulation
