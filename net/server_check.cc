#include "net/server_check.h"

#include <signal.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <utility>

#include "core/check.h"
#include "core/process.h"
#include "ech/config_list.h"
#include "net/byte_reader.h"
#include "net/cares_resolver.h"
#include "net/client_contexts.h"
#include "net/client_upgrade.h"
#include "net/connect_race.h"
#include "net/doh_tls_connector.h"
#include "net/limits.h"
#include "net/name_guard.h"
#include "net/server_lookup.h"
#include "net/tls_stream.h"
#include "net/web_socket_ping.h"
#include "proto/base64.h"
#include "proto/dns_message.h"
#include "proto/websocket_handshake.h"

namespace tunnel::net {
namespace {

using core::ToMilliseconds;

constexpr int kPings = 5;

// Passes questions on and notes what was answered.
class ObservedTransport final : public ech::DohTransport {
 public:
  explicit ObservedTransport(ech::DohTransport& transport) : transport_(transport) {}

  core::Task<absl::StatusOr<std::vector<uint8_t>>> Query(std::string name, uint16_t type) override {
    auto response = co_await transport_.Query(std::move(name), type);
    if (response.ok()) {
      Note(*response);
    } else if (failure_.ok()) {
      failure_ = response.status();
    }
    co_return std::move(response);
  }

  // Ok when it answered all that it was asked, with or without records.
  [[nodiscard]] const absl::Status& failure() const { return failure_; }
  // The records that were answered, as a zone has them.
  [[nodiscard]] const std::vector<std::string>& records() const { return records_; }

 private:
  void Note(const std::vector<uint8_t>& message) {
    const auto response = proto::ParseResponse(message);
    if (!response.ok()) return;
    if (response->rcode != proto::DnsRcode::kNoError && response->rcode != proto::DnsRcode::kNxDomain &&
        failure_.ok()) {
      failure_ = Unavailable("it answers {}", proto::ToString(response->rcode));
    }
    for (const proto::DnsRecord& record : response->answers) {
      std::string data;
      std::string_view type;
      if (const auto* https = std::get_if<proto::HttpsRecord>(&record.data)) {
        type = "HTTPS";
        data = proto::FormatHttpsRecord(*https, https->ech.empty() ? "" : proto::Base64Encode(https->ech));
      } else if (const auto* address = std::get_if<proto::IpAddress>(&record.data)) {
        type = address->v6 ? "AAAA" : "A";
        data = proto::ToString(*address);
      } else if (const auto* cname = std::get_if<proto::DnsCname>(&record.data)) {
        type = "CNAME";
        data = cname->target + ".";
      } else {
        continue;
      }
      records_.push_back(fmt::format("{}. {} IN {} {}", record.name, record.ttl_seconds, type, data));
    }
  }

  ech::DohTransport& transport_;
  absl::Status failure_;
  std::vector<std::string> records_;
};

class ServerCheck {
 public:
  ServerCheck(core::Reactor& reactor, const Config& config) : reactor_(reactor), config_(config) {}

  core::Task<absl::StatusOr<std::vector<CheckStep>>> Run() {
    if (absl::Status prepared = Prepare(); !prepared.ok()) co_return prepared;
    bool going = co_await LookUp();
    going = going && ReadConfigList();
    if (going) going = TakeAddresses();
    if (going) going = co_await ShakeHands();
    if (going) going = co_await Upgrade();
    if (going) co_await MeasureRoundTrip();
    if (stream_ != nullptr) stream_->CloseAfterSend(kCloseLimit);
    const absl::Status interruption = (co_await core::CurrentTask()).interruption();
    if (!interruption.ok()) co_return interruption;
    co_return std::move(steps_);
  }

 private:
  absl::Status Prepare() {
    auto tls = MakeTunnelContext(config_);
    if (!tls.ok()) return tls.status();
    tls_ = *std::move(tls);
    auto doh_tls = MakeDohContext(config_);
    if (!doh_tls.ok()) return doh_tls.status();
    doh_tls_ = *std::move(doh_tls);
    auto endpoints = DohEndpoints(config_);
    if (!endpoints.ok()) return endpoints.status();
    endpoints_ = *std::move(endpoints);
    auto resolver = CaresResolver::Create(reactor_, CaresOptions{});
    if (!resolver.ok()) return resolver.status();
    cares_ = *std::move(resolver);
    resolver_ = std::make_unique<NameGuard>(*cares_, config_.fallback ? "" : config_.server_host);
    for (core::SocketAddress address : config_.server_addresses) {
      if (!address.is_unix()) address.set_port(config_.server_port);
      addresses_.push_back(address);
    }
    if (const auto literal = core::SocketAddress::Parse(config_.server_host, config_.server_port);
        addresses_.empty() && literal.has_value()) {
      addresses_.push_back(*literal);
    }
    list_.assign(config_.ech_config_list.begin(), config_.ech_config_list.end());
    return absl::OkStatus();
  }

  CheckStep& Begin(CheckStepId id) {
    began_ = reactor_.now();
    steps_.push_back({.id = id});
    return steps_.back();
  }
  bool End(std::string summary) {
    steps_.back().took = reactor_.now() - began_;
    steps_.back().summary = std::move(summary);
    return true;
  }
  bool Skip(CheckStepId id, std::string why) {
    Begin(id).outcome = CheckOutcome::kSkipped;
    return End(std::move(why));
  }
  bool Fail(std::string why) {
    steps_.back().outcome = CheckOutcome::kFailed;
    End(std::move(why));
    return false;
  }
  void Detail(std::string what, std::string says) {
    steps_.back().details.emplace_back(std::move(what), std::move(says));
  }

  core::Task<bool> LookUp() {
    const bool want_ech = !config_.fallback && list_.empty();
    const bool want_addresses = addresses_.empty();
    if (!want_ech && !want_addresses) {
      Skip(CheckStepId::kDoh, "nothing to ask: ECH config and address are given");
      co_return Skip(CheckStepId::kRecord, "not looked up");
    }
    Begin(CheckStepId::kDoh);
    DohTlsConnector connector(reactor_, *doh_tls_, *resolver_);
    std::optional<ServerAnswer> answer;
    std::vector<std::string> records;
    size_t answered = 0;
    // Each by itself, so that one that is wrong is not hidden by another.
    for (size_t i = 0; i < endpoints_.size(); ++i) {
      const core::TimePoint asked = reactor_.now();
      DohClient client(reactor_, connector, {endpoints_[i]});
      ObservedTransport observed(client);
      ServerAnswer found = co_await LookUpServer(observed, {.host = config_.server_host,
                                                            .port = config_.server_port,
                                                            .ech_name = config_.ech_name,
                                                            .want_ech = want_ech,
                                                            .want_addresses = want_addresses});
      const bool good = observed.failure().ok();
      Detail(config_.doh_urls[i], good ? fmt::format("answered in {} ms", ToMilliseconds(reactor_.now() - asked))
                                       : std::string(MessageOf(observed.failure())));
      if (!good) continue;
      if (++answered == 1) {
        answer = std::move(found);
        records = observed.records();
      }
    }
    if (!answer.has_value()) co_return Fail("no resolver answers");
    End(fmt::format("{} of {} resolvers answer", answered, endpoints_.size()));

    if (want_addresses) {
      addresses_ = std::move(answer->addresses);
      address_status_ = std::move(answer->address_status);
    }
    if (!want_ech) co_return Skip(CheckStepId::kRecord, "not needed");
    Begin(CheckStepId::kRecord);
    for (std::string& record : records) Detail("record", std::move(record));
    if (!answer->ech_status.ok()) co_return Fail(std::string(MessageOf(answer->ech_status)));
    list_ = std::move(answer->ech_config_list);
    co_return End(
        fmt::format("{} has an HTTPS record with ech=, good for {} s", config_.ech_name, answer->ech_ttl_seconds));
  }

  bool ReadConfigList() {
    if (config_.fallback) return Skip(CheckStepId::kEchConfig, "-fallback: no ECH is asked for");
    Begin(CheckStepId::kEchConfig);
    const auto parsed = ech::ParseConfigList(list_);
    if (!parsed.ok()) return Fail(std::string(MessageOf(parsed.status())));
    for (const ech::EchConfig& config : parsed->usable) Detail("config", ech::DescribeConfig(config));
    for (const std::string& reason : parsed->skipped) Detail("skipped", reason);
    return End(fmt::format("{} of {} configs can be used", parsed->usable.size(),
                           parsed->usable.size() + parsed->skipped.size()));
  }

  bool TakeAddresses() {
    Begin(CheckStepId::kAddress);
    if (addresses_.empty()) return Fail(std::string(MessageOf(address_status_)));
    std::string text;
    for (const core::SocketAddress& address : addresses_) text += (text.empty() ? "" : ", ") + address.ToString();
    return End(std::move(text));
  }

  // A connection that has shaken hands, or nullptr; failure_ and tcp_failure_ say why.
  core::Task<std::unique_ptr<TlsStream>> Connect(bool first) {
    failure_ = {};
    if (first) Begin(CheckStepId::kTcp);
    auto socket = co_await ConnectRace(reactor_, addresses_, ConnectRaceOptions{});
    if (!socket.ok()) {
      if (first) Fail(std::string(MessageOf(socket.status())));
      failure_.status = socket.status();
      co_return nullptr;
    }
    if (first) {
      End(fmt::format("connected to {}", socket->peer_address().ToString()));
      Begin(CheckStepId::kTls);
    }
    auto engine = TlsEngine::Client(
        *tls_, {.host = config_.server_host, .ech_config_list = config_.fallback ? std::vector<uint8_t>() : list_});
    if (!engine.ok()) {
      failure_ = {.kind = TlsFailureKind::kInternal, .status = engine.status()};
      co_return nullptr;
    }
    auto stream = std::make_unique<TlsStream>(reactor_, *std::move(socket), *std::move(engine));
    core::TaskContext& context = co_await core::CurrentTask();
    const core::DeadlineGuard deadline(context, kDialLimit);
    const absl::Status shaken = co_await stream->Handshake();
    leaf_ = stream->engine().peer_leaf();
    if (shaken.ok()) co_return std::move(stream);
    failure_ = stream->engine().failure();
    if (failure_.status.ok()) failure_.status = shaken;
    stream->CloseAfterSend(kCloseLimit);
    co_return nullptr;
  }

  // The steps tcp, tls, ech and certificate: one or two handshakes tell of all of them.
  core::Task<bool> ShakeHands() {
    stream_ = co_await Connect(true);
    if (steps_.back().id == CheckStepId::kTcp) co_return false;
    const TlsFailureKind kind = failure_.kind;
    if (stream_ == nullptr && kind != TlsFailureKind::kEchRejected && kind != TlsFailureKind::kCertificate) {
      co_return Fail(std::string(MessageOf(failure_.status)));
    }
    if (stream_ != nullptr) {
      End(stream_->engine().Describe());
    } else {
      End(fmt::format("TLS 1.3, and {}",
                      kind == TlsFailureKind::kEchRejected ? "ECH was not accepted" : "a certificate"));
    }
    bool going = true;
    if (config_.fallback) {
      Skip(CheckStepId::kEch, fmt::format("-fallback: {} is seen on the wire", config_.server_host));
    } else if (stream_ != nullptr || (kind == TlsFailureKind::kCertificate && failure_.outer_name.empty())) {
      Begin(CheckStepId::kEch);
      End("accepted");
    } else {
      going = co_await RetryRejected();
    }
    co_return going&& JudgeCertificate();
  }

  // The list was rejected: tries what the server sent instead. False when there is nothing to go on with.
  core::Task<bool> RetryRejected() {
    Begin(CheckStepId::kEch);
    const TlsFailure rejected = failure_;
    if (rejected.kind == TlsFailureKind::kCertificate) co_return Fail(std::string(MessageOf(rejected.status)));
    Detail("outer name", rejected.outer_name);
    if (rejected.retry_configs.empty()) {
      co_return Fail(
          "rejected, and the server says that it has no ECH: its operator has to switch it on, or take ech= "
          "out of the DNS");
    }
    const auto parsed = ech::ParseConfigList(rejected.retry_configs);
    if (!parsed.ok())
      co_return Fail(
          fmt::format("rejected, and what the server sent to retry with is of no use: {}", MessageOf(parsed.status())));
    for (const ech::EchConfig& config : parsed->usable) Detail("retry config", ech::DescribeConfig(config));
    list_ = rejected.retry_configs;
    stream_ = co_await Connect(false);
    // Clients go on by themselves; the cause is still to be mended, so the step has failed.
    const bool accepted =
        stream_ != nullptr || (failure_.kind == TlsFailureKind::kCertificate && failure_.outer_name.empty());
    (void)Fail(accepted
                   ? fmt::format("rejected: the list of {} is stale; the server's own, sent to retry with, is accepted",
                                 config_.ech_config_list.empty() ? "the DNS" : "-ech-config")
                   : fmt::format("rejected, and again with what the server sent to retry with: {}",
                                 MessageOf(failure_.status)));
    co_return accepted;
  }

  bool JudgeCertificate() {
    Begin(CheckStepId::kCertificate);
    if (leaf_ != nullptr) {
      const CertificateSummary leaf = Summarize(*leaf_);
      Detail("names", fmt::format("{}", fmt::join(leaf.names, ", ")));
      Detail("issuer", leaf.issuer);
      Detail("valid", fmt::format("{} to {}", leaf.not_before, leaf.not_after));
      Detail("pin", leaf.pin);
    }
    if (stream_ == nullptr) return Fail(std::string(MessageOf(failure_.status)));
    return End(fmt::format("good for {}", config_.server_host));
  }

  core::Task<bool> Upgrade() {
    Begin(CheckStepId::kUpgrade);
    core::TaskContext& context = co_await core::CurrentTask();
    const core::DeadlineGuard deadline(context, kDialLimit);
    std::array<uint8_t, 16> random{};
    reactor_.FillRandom(random);
    const std::string key = proto::MakeWebSocketKey(random);
    std::array<uint8_t, proto::kMuxSessionIdBytes> session{};
    reactor_.FillRandom(session);
    const auto request = UpgradeRequest(config_, key, proto::MuxSessionId(session));
    if (!request.ok()) co_return Fail(std::string(MessageOf(request.status())));
    stream_->Send(reactor_.buffers().Copy(*request));
    UpgradeAnswer answer = co_await ReadUpgradeAnswer(*stream_, config_, key);
    if (!answer.status.ok()) {
      co_return Fail(fmt::format("{}{}", MessageOf(answer.status), AdviceFor(answer.http_status)));
    }
    rest_ = std::move(answer.rest);
    End("WebSocket, HTTP status 101");

    Begin(CheckStepId::kProtocol);
    if (answer.mux.has_value()) {
      Detail("window", fmt::format("{} bytes", answer.mux->window));
      Detail("resume", fmt::format("{} s", answer.mux->resume_seconds));
      co_return End("mux/2: streams outlive their channel");
    }
    if (config_.protocol == Protocol::kNative)
      co_return Fail(
          "the server speaks the legacy protocol only, and -proto "
          "native asks for mux/2");
    co_return End(config_.protocol == Protocol::kLegacy ? "legacy, as -proto asks"
                                                        : "legacy: the server does not speak mux/2");
  }

  static std::string_view AdviceFor(int http_status) {
    switch (http_status) {
      case 400:
        return "; does it speak what -proto asks for?";
      case 401:
        return ": -token is not the server's";
      case 403:
        return ": it does not admit this address (-cidr)";
      case 404:
        return ": the path of -f is not the server's, or it wants ECH (-require-ech)";
      case 503:
        return ": it has as many channels as it takes of one source, or of all";
      default:
        return "";
    }
  }

  core::Task<void> MeasureRoundTrip() {
    Begin(CheckStepId::kRoundTrip);
    core::TaskContext& context = co_await core::CurrentTask();
    const core::DeadlineGuard deadline(context, kDialLimit);
    const auto times = co_await PingWebSocket(reactor_, *stream_, std::move(rest_), kPings);
    if (!times.ok()) {
      (void)Fail(std::string(MessageOf(times.status())));
      co_return;
    }
    core::Duration sum{};
    for (const core::Duration time : *times) sum += time;
    const auto ms = [](core::Duration time) { return std::chrono::duration<double, std::milli>(time).count(); };
    const auto [least, most] = std::ranges::minmax(*times);
    End(fmt::format("{:.1f} ms (least {:.1f}, most {:.1f}, of {})", ms(sum / kPings), ms(least), ms(most), kPings));
  }

  core::Reactor& reactor_;
  const Config& config_;
  std::unique_ptr<TlsClientContext> tls_;
  std::unique_ptr<TlsClientContext> doh_tls_;
  std::vector<DohEndpoint> endpoints_;
  std::unique_ptr<CaresResolver> cares_;
  std::unique_ptr<NameGuard> resolver_;

  std::vector<CheckStep> steps_;
  core::TimePoint began_;
  std::vector<uint8_t> list_;
  std::vector<core::SocketAddress> addresses_;
  absl::Status address_status_ = NotFound("no address is known");
  std::unique_ptr<TlsStream> stream_;
  TlsFailure failure_;
  bssl::UniquePtr<X509> leaf_;  // of the last handshake
  std::string rest_;
};

core::Task<absl::StatusOr<std::vector<CheckStep>>> Check(core::Reactor* reactor, const Config* config) {
  ServerCheck check(*reactor, *config);
  co_return co_await check.Run();
}

core::Task<void> Store(core::Reactor* reactor, const Config* config,
                       std::optional<absl::StatusOr<std::vector<CheckStep>>>* result) {
  auto steps = co_await Check(reactor, config);
  result->emplace(std::move(steps));
  reactor->Stop();
}

}  // namespace

std::string_view NameOf(CheckStepId step) {
  constexpr std::array<std::string_view, kCheckSteps> kNames = {"doh",     "record",   "ech-config", "address",
                                                                "tcp",     "tls",      "ech",        "certificate",
                                                                "upgrade", "protocol", "round-trip"};
  return kNames[static_cast<size_t>(step)];
}

core::Task<absl::StatusOr<std::vector<CheckStep>>> CheckServer(core::Reactor& reactor, const Config& config) {
  return Check(&reactor, &config);
}

absl::StatusOr<std::vector<CheckStep>> RunServerCheck(const Config& config) {
  std::string note;
  auto reactor = core::Reactor::Create(config.reactor, 0, note);
  if (!reactor.ok()) return reactor.status();
  std::optional<absl::StatusOr<std::vector<CheckStep>>> result;
  {
    core::Scope scope(**reactor);
    const core::SignalWatch signals(**reactor, {SIGINT, SIGTERM}, [&](int) { scope.Cancel(); });
    scope.Spawn(Store(reactor->get(), &config, &result));
    (*reactor)->Run();
  }
  TUNNEL_CHECK(result.has_value());
  return *std::move(result);
}

}  // namespace tunnel::net
