// The server's share of a full TLS 1.3 handshake, with ECH and without: TlsEngine beside BoringSSL alone over memory
// BIOs, one of each in turn, so that both meet the same machine. Only what the server does is timed, from making the
// connection to its Finished being checked and the connection freed, in CPU time of the thread. The client's work is
// done by BoringSSL and left out. Certificates are P-256, and nothing is resumed.
//
// The time of the benchmark is the engine's. Counters: `library_us` is BoringSSL's, `of_library` how many handshakes
// the engine does for one of BoringSSL's. `keys` is how many ECH keys the server has, the client using the oldest;
// `one_id` gives them all one config id, so that each is tried on every ClientHello.
#include <benchmark/benchmark.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <array>
#include <chrono>
#include <ctime>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "core/check.h"
#include "ech/key_store.h"
#include "net/made_certificate.h"
#include "net/tls_engine.h"

namespace {

using namespace tunnel;

using Bytes = std::vector<uint8_t>;
constexpr char kInner[] = "secret.test";
constexpr char kOuter[] = "cover.test";

double ThreadCpuSeconds() {
  timespec now{};
  TUNNEL_CHECK(::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// One end of a connection on BoringSSL alone.
class LibraryEnd {
 public:
  LibraryEnd(SSL_CTX* ctx, bool server) : ssl_(SSL_new(ctx)) {
    BIO* const in = BIO_new(BIO_s_mem());
    BIO* const out = BIO_new(BIO_s_mem());
    TUNNEL_CHECK(ssl_ != nullptr && in != nullptr && out != nullptr);
    BIO_set_mem_eof_return(in, -1);
    SSL_set_bio(ssl_.get(), in, out);
    server ? SSL_set_accept_state(ssl_.get()) : SSL_set_connect_state(ssl_.get());
  }

  // Takes what came, returns what to send.
  Bytes Step(std::span<const uint8_t> received) {
    if (!received.empty()) {
      const int length = static_cast<int>(received.size());
      TUNNEL_CHECK(BIO_write(SSL_get_rbio(ssl_.get()), received.data(), length) == length);
    }
    const int result = SSL_do_handshake(ssl_.get());
    TUNNEL_CHECK(result == 1 || SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ);
    done_ = result == 1;
    const uint8_t* bytes = nullptr;
    size_t length = 0;
    TUNNEL_CHECK(BIO_mem_contents(SSL_get_wbio(ssl_.get()), &bytes, &length) == 1);
    Bytes output(bytes, bytes + length);
    (void)BIO_reset(SSL_get_wbio(ssl_.get()));
    return output;
  }

  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] bool ech_accepted() const { return SSL_ech_accepted(ssl_.get()) == 1; }
  [[nodiscard]] SSL* ssl() const { return ssl_.get(); }

 private:
  bssl::UniquePtr<SSL> ssl_;
  bool done_ = false;
};

// The server's end as the program has it.
class EngineEnd {
 public:
  explicit EngineEnd(const net::TlsServerContext& context) {
    auto engine = net::TlsEngine::Server(context);
    TUNNEL_CHECK(engine.ok());
    engine_ = *std::move(engine);
  }

  Bytes Step(std::span<const uint8_t> received) {
    engine_->FeedCiphertext(received);
    const net::TlsEngine::HandshakeState state = engine_->Handshake();
    TUNNEL_CHECK(state != net::TlsEngine::HandshakeState::kFailed);
    done_ = state == net::TlsEngine::HandshakeState::kDone;
    return engine_->TakeOutput();
  }

  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] bool ech_accepted() const { return engine_->ech_accepted(); }

 private:
  std::unique_ptr<net::TlsEngine> engine_;
  bool done_ = false;
};

// Keys for both servers, the newest first, and the list that publishes the oldest.
struct EchKeys {
  ech::KeyStore store;
  Bytes list;
};

EchKeys MakeKeys(size_t count, bool one_id) {
  std::vector<uint8_t> taken;
  if (one_id) {
    taken.resize(255);
    std::iota(taken.begin(), taken.end(), uint8_t{1});
  }
  std::vector<ech::EchKey> keys;
  for (size_t i = 0; i < count; ++i) {
    auto key = ech::GenerateKey(kOuter, ech::kDefaultMaximumNameLength, taken, std::chrono::system_clock::now());
    TUNNEL_CHECK(key.ok());
    if (!one_id) taken.push_back(key->configs().front().config_id);
    keys.push_back(*std::move(key));
  }
  Bytes list = keys.back().ConfigListBytes();
  auto store = ech::KeyStore::FromKeys(std::move(keys));
  TUNNEL_CHECK(store.ok());
  return {.store = *std::move(store), .list = std::move(list)};
}

// The context that a server of BoringSSL's own documentation would have: certificate, TLS 1.3, no tickets.
bssl::UniquePtr<SSL_CTX> MakeLibraryServer(const net::CertificatePair& pair) {
  bssl::UniquePtr<SSL_CTX> ctx(SSL_CTX_new(TLS_with_buffers_method()));
  const auto bio = [](std::string_view pem) {
    return bssl::UniquePtr<BIO>(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  };
  const bssl::UniquePtr<X509> certificate(
      PEM_read_bio_X509(bio(pair.certificate_pem).get(), nullptr, nullptr, nullptr));
  const bssl::UniquePtr<EVP_PKEY> key(
      PEM_read_bio_PrivateKey(bio(pair.key_pem.Reveal()).get(), nullptr, nullptr, nullptr));
  TUNNEL_CHECK(ctx != nullptr && certificate != nullptr && key != nullptr);
  uint8_t* der = nullptr;
  const int length = i2d_X509(certificate.get(), &der);
  TUNNEL_CHECK(length > 0);
  const bssl::UniquePtr<uint8_t> owner(der);
  const bssl::UniquePtr<CRYPTO_BUFFER> buffer(CRYPTO_BUFFER_new(der, static_cast<size_t>(length), nullptr));
  CRYPTO_BUFFER* const chain[] = {buffer.get()};
  TUNNEL_CHECK(SSL_CTX_set_chain_and_key(ctx.get(), chain, 1, key.get(), nullptr) == 1);
  TUNNEL_CHECK(SSL_CTX_set_min_proto_version(ctx.get(), TLS1_3_VERSION) == 1);
  SSL_CTX_set_session_cache_mode(ctx.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(ctx.get(), SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(ctx.get(), 0);
  return ctx;
}

bssl::UniquePtr<SSL_CTX> MakeClient() {
  bssl::UniquePtr<SSL_CTX> ctx(SSL_CTX_new(TLS_with_buffers_method()));
  TUNNEL_CHECK(ctx != nullptr && SSL_CTX_set_min_proto_version(ctx.get(), TLS1_3_VERSION) == 1);
  SSL_CTX_set_custom_verify(ctx.get(), SSL_VERIFY_PEER, [](SSL*, uint8_t*) { return ssl_verify_ok; });
  return ctx;
}

// One handshake with the server that `make_server` makes; the server's CPU seconds.
template <typename MakeServer>
double Shake(SSL_CTX* client_ctx, const Bytes& ech_list, const MakeServer& make_server) {
  LibraryEnd client(client_ctx, /*server=*/false);
  TUNNEL_CHECK(SSL_set_tlsext_host_name(client.ssl(), kInner) == 1);
  if (!ech_list.empty()) {
    TUNNEL_CHECK(SSL_set1_ech_config_list(client.ssl(), ech_list.data(), ech_list.size()) == 1);
  }
  const Bytes hello = client.Step({});

  double begin = ThreadCpuSeconds();
  auto server = make_server();
  const Bytes flight = server->Step(hello);
  double seconds = ThreadCpuSeconds() - begin;

  const Bytes finished = client.Step(flight);
  TUNNEL_CHECK(client.done());

  begin = ThreadCpuSeconds();
  (void)server->Step(finished);
  TUNNEL_CHECK(server->done() && server->ech_accepted() == !ech_list.empty());
  server.reset();
  return seconds + ThreadCpuSeconds() - begin;
}

void Handshake(benchmark::State& state, size_t key_count, bool one_id) {
  const std::array<std::string, 2> names = {kInner, kOuter};
  const auto now = std::chrono::system_clock::now();
  const auto pair = net::MakeSelfSigned(names, now - std::chrono::hours(1), now + std::chrono::hours(24));
  TUNNEL_CHECK(pair.ok());
  const auto context =
      net::TlsServerContext::FromPem(pair->certificate_pem, "made", pair->key_pem.Reveal(), "made", {"http/1.1"});
  TUNNEL_CHECK(context.ok());
  const bssl::UniquePtr<SSL_CTX> library = MakeLibraryServer(*pair);
  const bssl::UniquePtr<SSL_CTX> client = MakeClient();
  Bytes list;
  if (key_count > 0) {
    EchKeys keys = MakeKeys(key_count, one_id);
    TUNNEL_CHECK((*context)->SetEchKeys(keys.store).ok() && keys.store.ApplyTo(library.get()).ok());
    list = std::move(keys.list);
  }

  const auto shake_engine = [&] {
    return Shake(client.get(), list, [&] { return std::make_unique<EngineEnd>(**context); });
  };
  const auto shake_library = [&] {
    return Shake(client.get(), list, [&] { return std::make_unique<LibraryEnd>(library.get(), /*server=*/true); });
  };
  double engine_seconds = 0;
  double library_seconds = 0;
  bool engine_first = false;
  for (auto unused : state) {
    double engine = 0;
    // Neither always finds what the other has left in the caches.
    engine_first = !engine_first;
    if (engine_first) engine = shake_engine();
    library_seconds += shake_library();
    if (!engine_first) engine = shake_engine();
    engine_seconds += engine;
    state.SetIterationTime(engine);
  }
  const auto count = static_cast<double>(state.iterations());
  state.counters["per_second"] = count / engine_seconds;
  state.counters["library_us"] = library_seconds / count * 1e6;
  state.counters["of_library"] = library_seconds / engine_seconds;
}

BENCHMARK_CAPTURE(Handshake, plain, 0, false)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Handshake, ech_keys_1, 1, false)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Handshake, ech_keys_4, 4, false)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Handshake, ech_keys_64, 64, false)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Handshake, ech_keys_4_one_id, 4, true)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Handshake, ech_keys_64_one_id, 64, true)->UseManualTime()->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
