# libhero_kvs, shared and static, from the objects of all modules. Only what hero_kvs.h marks HKV_API is visible: the shared
# library hides the rest by -fvisibility=hidden, the static one is one object whose hidden symbols were made local, so that no
# name of ours can clash with one of the program's.
set(hkv_objects "")
foreach(module IN ITEMS base crypto wire store net docs blobs gossip kv node)
    if(TARGET hkv_${module})
        get_target_property(type hkv_${module} TYPE)
        if(type STREQUAL STATIC_LIBRARY)
            list(APPEND hkv_objects $<TARGET_OBJECTS:hkv_${module}>)
        endif()
    endif()
endforeach()

set(hkv_packages PkgConfig::SODIUM PkgConfig::SQLITE PkgConfig::UV PkgConfig::GNUTLS PkgConfig::NGTCP2
    PkgConfig::JANSSON Threads::Threads)

add_library(hero_kvs SHARED ${hkv_objects})
set_target_properties(hero_kvs PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINKER_LANGUAGE C)
target_include_directories(hero_kvs PUBLIC ${CMAKE_SOURCE_DIR}/include)
target_link_libraries(hero_kvs PRIVATE ${hkv_packages})
target_link_options(hero_kvs PRIVATE -Wl,--as-needed)
if(NOT HKV_SANITIZE AND NOT HKV_FUZZ)
    target_link_options(hero_kvs PRIVATE -Wl,--no-undefined)
endif()

set(hkv_static ${CMAKE_ARCHIVE_OUTPUT_DIRECTORY}/libhero_kvs.a)
set(hkv_one_object ${CMAKE_BINARY_DIR}/hero_kvs.o)
add_custom_command(OUTPUT ${hkv_static}
    COMMAND ${CMAKE_COMMAND} -E rm -f ${hkv_static}
    COMMAND ${CMAKE_C_COMPILER} -r -nostdlib -o ${hkv_one_object} ${hkv_objects}
    COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${hkv_one_object}
    COMMAND ${CMAKE_AR} qcs ${hkv_static} ${hkv_one_object}
    DEPENDS ${hkv_objects} COMMAND_EXPAND_LISTS VERBATIM)
add_custom_target(hero_kvs_static ALL DEPENDS ${hkv_static})

file(RELATIVE_PATH hkv_prefix_from_pc /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${CMAKE_SOURCE_DIR}/cmake/hero_kvs.pc.in ${CMAKE_BINARY_DIR}/hero_kvs.pc @ONLY)

# Installed programs find the library beside them, wherever the prefix is.
set(CMAKE_INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")

install(TARGETS hero_kvs LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${hkv_static} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${CMAKE_SOURCE_DIR}/include/hero_kvs.h ${CMAKE_SOURCE_DIR}/include/hero_kvs_error.h
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${CMAKE_BINARY_DIR}/hero_kvs.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
