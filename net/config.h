// What the program was told to do, checked: the result of flags, environment and files. Constant after start.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/log.h"
#include "core/reactor.h"
#include "core/socket_address.h"
#include "net/limits.h"
#include "proto/target.h"
#include "proto/url.h"

namespace tunnel::net {

enum class ListenKind {
  kServerTls,    // wss://: the tunnel server
  kServerPlain,  // ws://: the same behind something that ends TLS
  kForward,      // tcp://LISTEN/TARGET: every connection goes to one target
  kUdpForward,   // udp://LISTEN/TARGET: every datagram goes to one target
  kReverse,      // rtcp://LISTEN/TARGET: the server listens, and every connection comes back to one target here
  kProxy,        // proxy://: SOCKS4, SOCKS5 and HTTP on one port
};

// One thing to listen on. `-l tcp://A/B,C/D` makes two, and so do udp:// and rtcp://.
struct ListenSpec {
  ListenKind kind = ListenKind::kProxy;
  core::SocketAddress address;  // kReverse: one of the server's
  std::string path;             // server: "/path"; "/" matches every path
  proto::Target target;         // kForward, kUdpForward, kReverse
  std::string user;             // kProxy; empty asks for none
  std::string password;         // kProxy
  std::string description;      // as given, without credentials, for the log
};

// One rule of -allow-target, -deny-target or -allow-reverse; of the last only networks.
struct TargetRule {
  enum class Kind { kNetwork, kName, kSuffix, kAny, kUnix };
  Kind kind = Kind::kAny;
  proto::Cidr network;      // kNetwork
  std::string name;         // kName: lower case; kSuffix: lower case without the leading "*."; kUnix: the path
  uint16_t first_port = 1;  // inclusive
  uint16_t last_port = 65535;
};

// -f of a server: the SOCKS5 proxy through which it goes out.
struct OutboundProxy {
  proto::Target address;                          // unless unix_socket is valid
  core::SocketAddress unix_socket;                // valid: the proxy listens there
  std::optional<proto::Credentials> credentials;  // secret: never logged
  std::string description;                        // as given, without credentials
};

enum class Protocol { kAuto, kNative, kLegacy };

struct Config {
  std::vector<ListenSpec> listen;

  // --- client ---
  std::string server_host;  // of -f: the name that ECH hides, or an address
  uint16_t server_port = 443;
  std::string server_path = "/";
  std::vector<core::SocketAddress> server_addresses;  // -ip, port 0 or Unix; empty: resolve over DoH
  unsigned channels = 3;                              // for each address of -ip
  std::vector<std::string> doh_urls;                  // https://host[:port]/path
  std::string ech_name;                               // whose HTTPS record holds the ECHConfigList
  std::string ech_config_list;                        // -ech-config, decoded; empty: by DoH
  bool fallback = false;
  Protocol protocol = Protocol::kAuto;

  // --- both ---
  std::string token;  // secret: never logged
  std::string ca_file;
  std::vector<std::string> pins;  // SHA-256 of a public key, 32 bytes each
  std::string state_directory;

  // --- server ---
  std::vector<proto::Cidr> admitted;  // -cidr
  std::string certificate_file;
  std::string key_file;
  std::string ech_key_directory;
  std::string ech_public_name;
  std::chrono::seconds ech_rotate{0};         // -ech-rotate; 0: keys stay as they are
  std::chrono::seconds ech_publish_delay{0};  // -ech-publish-delay
  bool require_ech = false;
  std::vector<std::string> names;
  bool serve_dns = false;
  unsigned channels_per_source = kChannelsPerSource;  // of wss:// listeners; 0: any number
  std::vector<TargetRule> allow_target;
  std::vector<TargetRule> deny_target;
  std::vector<TargetRule> allow_reverse;  // where clients may have the server listen; empty: nowhere
  std::optional<OutboundProxy> outbound;  // -f socks5://; nothing: directly

  // --- process ---
  core::ReactorOptions reactor;
  unsigned threads = 0;  // 0: the cores this process may use
  std::string log_level = "info";
  core::LogFormat log_format = core::LogFormat::kText;

  [[nodiscard]] bool is_server() const {
    return !listen.empty() && (listen[0].kind == ListenKind::kServerTls || listen[0].kind == ListenKind::kServerPlain);
  }
};

}  // namespace tunnel::net
