// A group of processes: c10d's store and Gloo, which are in libtorch, and NCCL, opened at run time.

#include <dlfcn.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <c10/util/Logging.h>

#include "guarded.h"

#ifdef GRIMACE_GLOO

#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace {

using std::chrono::milliseconds;

// The part of NCCL's interface that is used. Types and values are those of nccl.h, which are the same in all
// versions since 2.0 (bfloat16: 2.10).
struct NcclId {
  char bytes[128];
};
using NcclComm = void*;
constexpr int NCCL_SUM = 0, NCCL_IN_PROGRESS = 7;

int nccl_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return 7;
    case at::kDouble:
      return 8;
    case at::kLong:
      return 4;
    case at::kByte:
      return 1;
    case at::kBFloat16:
      return 9;
    default:
      throw std::runtime_error("NCCL does not reduce this dtype");
  }
}

class Nccl {
 public:
  Nccl() {
    // libtorch's CUDA library has loaded it if it is there; RTLD_NOLOAD finds that one.
    library_ = dlopen("libnccl.so.2", RTLD_NOW | RTLD_NOLOAD);
    if (library_ == nullptr) {
      library_ = dlopen("libnccl.so.2", RTLD_NOW);
    }
    if (library_ == nullptr) {
      throw std::runtime_error("NCCL (libnccl.so.2) cannot be opened");
    }
  }

  NcclId new_id() {
    NcclId id;
    check(find<int(NcclId*)>("ncclGetUniqueId")(&id));
    return id;
  }

  void join(int size, const NcclId& id, int rank) {
    check(find<int(NcclComm*, int, NcclId, int)>("ncclCommInitRank")(&comm_, size, id, rank));
  }

  // On the null stream, which is the one that libtorch uses.
  void all_reduce(at::Tensor& tensor) {
    auto reduce = find<int(const void*, void*, size_t, int, int, NcclComm, void*)>("ncclAllReduce");
    check(reduce(tensor.data_ptr(), tensor.data_ptr(), tensor.numel(), nccl_type(tensor.scalar_type()), NCCL_SUM,
                 comm_, nullptr));
  }

  void broadcast(at::Tensor& tensor) {
    auto broadcast = find<int(const void*, void*, size_t, int, int, NcclComm, void*)>("ncclBroadcast");
    check(broadcast(tensor.data_ptr(), tensor.data_ptr(), tensor.numel(), nccl_type(tensor.scalar_type()), 0, comm_,
                    nullptr));
  }

  // Ends what waits on the GPU for a process that is gone. Any thread may call it, once.
  void abort() {
    std::lock_guard<std::mutex> lock(abort_);
    if (comm_ != nullptr) {
      find<int(NcclComm)>("ncclCommAbort")(comm_);
      comm_ = nullptr;
    }
  }

 private:
  template <typename F>
  F* find(const char* name) {
    void* symbol = dlsym(library_, name);
    if (symbol == nullptr) {
      throw std::runtime_error(std::string("NCCL has no ") + name);
    }
    return reinterpret_cast<F*>(symbol);
  }

  void check(int code) {
    if (code != 0 && code != NCCL_IN_PROGRESS) {
      throw std::runtime_error(std::string("NCCL: ") + find<const char*(int)>("ncclGetErrorString")(code));
    }
  }

  void* library_ = nullptr;
  NcclComm comm_ = nullptr;
  std::mutex abort_;
};

struct Group {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::Backend> gloo;
  std::unique_ptr<Nccl> nccl;

  bool uses_nccl(const at::Tensor& tensor) const { return nccl != nullptr && tensor.is_cuda(); }
};

std::vector<uint8_t> bytes_of(const void* data, size_t length) {
  auto first = static_cast<const uint8_t*>(data);
  return std::vector<uint8_t>(first, first + length);
}

// The interface to talk over, as PyTorch chooses it: GLOO_SOCKET_IFNAME; the one with the address of this host's
// name. `host` is an address of this machine, or null.
std::shared_ptr<::gloo::transport::Device> interface_for(const char* host) {
  const char* name = std::getenv("GLOO_SOCKET_IFNAME");
  if (name != nullptr && *name != '\0') {
    return c10d::ProcessGroupGloo::createDeviceForInterface(name);
  }
  return host == nullptr ? c10d::ProcessGroupGloo::createDefaultDevice()
                         : c10d::ProcessGroupGloo::createDeviceForHostname(host);
}

}  // namespace

extern "C" {

char* grimace_group_join(const char* address, uint16_t port, bool serves, const char* prefix, int rank, int size,
                         const char* host, int64_t timeout, void** group) {
  return guarded([&] {
    // Each error is returned. c10d logs it too, with a stack trace, and warns of every attempt.
    if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) {
      FLAGS_caffe2_log_level = 3;
    }
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = serves;
    // The processes meet in Gloo's constructor.
    options.waitWorkers = false;
    options.timeout = milliseconds(timeout);
    c10::intrusive_ptr<c10d::Store> server = c10::make_intrusive<c10d::TCPStore>(address, options);
    auto made = std::make_unique<Group>();
    made->store = c10::make_intrusive<c10d::PrefixStore>(prefix, server);
    auto gloo = c10d::ProcessGroupGloo::Options::create(milliseconds(timeout));
    gloo->devices.push_back(interface_for(host));
    // One at a time, in order.
    gloo->threads = 1;
    made->gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(made->store, rank, size, gloo);
    *group = made.release();
  });
}

char* grimace_group_use_nccl(void* group) {
  return guarded([&] {
    auto& own = *static_cast<Group*>(group);
    auto nccl = std::make_unique<Nccl>();
    NcclId id{};
    if (own.gloo->getRank() == 0) {
      id = nccl->new_id();
      own.store->set("nccl", bytes_of(&id, sizeof id));
    }
    const auto bytes = own.store->get("nccl");
    if (bytes.size() != sizeof id) {
      throw std::runtime_error("the identifier of the NCCL group is incomplete");
    }
    memcpy(&id, bytes.data(), sizeof id);
    nccl->join(own.gloo->getSize(), id, own.gloo->getRank());
    own.nccl = std::move(nccl);
  });
}

char* grimace_group_set_timeout(void* group, int64_t timeout) {
  return guarded([&] { static_cast<Group*>(group)->gloo->setTimeout(milliseconds(timeout)); });
}

char* grimace_group_all_reduce(void* group, at::Tensor* tensor) {
  return guarded([&] {
    auto& own = *static_cast<Group*>(group);
    at::NoGradGuard guard;
    at::Tensor values = tensor->detach();
    if (own.uses_nccl(values)) {
      return own.nccl->all_reduce(values);
    }
    std::vector<at::Tensor> tensors{values};
    own.gloo->allreduce(tensors)->wait();
  });
}

// From rank 0.
char* grimace_group_broadcast(void* group, at::Tensor* tensor) {
  return guarded([&] {
    auto& own = *static_cast<Group*>(group);
    at::NoGradGuard guard;
    at::Tensor values = tensor->detach();
    if (own.uses_nccl(values)) {
      return own.nccl->broadcast(values);
    }
    std::vector<at::Tensor> tensors{values};
    own.gloo->broadcast(tensors)->wait();
  });
}

char* grimace_group_set(void* group, const char* key, const char* value) {
  return guarded([&] { static_cast<Group*>(group)->store->set(key, bytes_of(value, strlen(value))); });
}

// `*value` stays null if the key is not set.
char* grimace_group_get(void* group, const char* key, char** value) {
  return guarded([&] {
    auto& store = static_cast<Group*>(group)->store;
    if (store->check({key})) {
      const auto bytes = store->get(key);
      *value = message(std::string(bytes.begin(), bytes.end()));
    }
  });
}

char* grimace_group_add(void* group, const char* key, int64_t* value) {
  return guarded([&] { *value = static_cast<Group*>(group)->store->add(key, *value); });
}

char* grimace_group_abort(void* group) {
  return guarded([&] {
    auto& own = *static_cast<Group*>(group);
    if (own.nccl != nullptr) {
      own.nccl->abort();
    }
  });
}

void grimace_group_free(void* group) { delete static_cast<Group*>(group); }

}  // extern "C"

#else

namespace {

char* without_gloo() {
  return message("this build of libtorch has no communication between processes (Gloo); it needs Linux");
}

}  // namespace

extern "C" {

char* grimace_group_join(const char*, uint16_t, bool, const char*, int, int, const char*, int64_t, void**) {
  return without_gloo();
}
char* grimace_group_use_nccl(void*) { return without_gloo(); }
char* grimace_group_set_timeout(void*, int64_t) { return without_gloo(); }
char* grimace_group_all_reduce(void*, at::Tensor*) { return without_gloo(); }
char* grimace_group_broadcast(void*, at::Tensor*) { return without_gloo(); }
char* grimace_group_set(void*, const char*, const char*) { return without_gloo(); }
char* grimace_group_get(void*, const char*, char**) { return without_gloo(); }
char* grimace_group_add(void*, const char*, int64_t*) { return without_gloo(); }
char* grimace_group_abort(void*) { return without_gloo(); }
void grimace_group_free(void*) {}

}  // extern "C"

#endif
