# Builds llama.cpp's llama-server on the shared libraries of an installed llama-cpp-python, so that the peer and
# our engine run the very same kernels. `llama_server.py` copies this file into its build folder and gives
#   LLAMA_CPP   the source of llama.cpp, from the same release of llama-cpp-python
#   ENGINE_LIB  the folder of the installed libraries
cmake_minimum_required(VERSION 3.21)
project(localsmith_llama_server C CXX)

set(CMAKE_CXX_STANDARD 17)
set(BUILD_SHARED_LIBS OFF)
set(PROJECT_SOURCE_DIR ${LLAMA_CPP})  # llama.cpp's own files find headers and scripts by it

# Plain HTTP suffices, and no web page is fetched or built.
foreach(option LLAMA_OPENSSL LLAMA_BUILD_UI LLAMA_USE_PREBUILT_UI LLAMA_ALL_WARNINGS LLAMA_TOOLS_INSTALL)
    set(${option} OFF)
endforeach()
set(LLAMA_BUILD_COMMON ON)
set(LLAMA_SUBPROCESS ON)
set(LLAMA_BUILD_NUMBER 0)
set(LLAMA_BUILD_COMMIT "sdist")
set(BUILD_COMPILER "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
set(BUILD_TARGET "${CMAKE_SYSTEM_NAME} ${CMAKE_SYSTEM_PROCESSOR}")

foreach(name ggml-base ggml-cpu ggml llama mtmd)
    find_library(${name}_FILE ${name} PATHS ${ENGINE_LIB} REQUIRED NO_DEFAULT_PATH)
    add_library(${name} SHARED IMPORTED GLOBAL)
    set_target_properties(${name} PROPERTIES IMPORTED_LOCATION ${${name}_FILE})
    target_include_directories(${name} INTERFACE
        ${LLAMA_CPP}/include ${LLAMA_CPP}/ggml/include ${LLAMA_CPP}/tools/mtmd)
endforeach()
target_compile_definitions(ggml INTERFACE GGML_USE_CPU)
target_link_libraries(ggml INTERFACE ggml-base ggml-cpu)
target_link_libraries(llama INTERFACE ggml)
target_link_libraries(mtmd INTERFACE llama)

include(${LLAMA_CPP}/cmake/license.cmake)
function(llama_add_compile_flags)
endfunction()
foreach(part vendor common tools/ui tools/server)
    add_subdirectory(${LLAMA_CPP}/${part} ${CMAKE_BINARY_DIR}/${part})
endforeach()
