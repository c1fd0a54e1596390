# The command line tool. It shares the text encodings and the place of the socket with the daemon; the library reads stopped
# stores for it.
file(GLOB cli_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/cli/*.c)
add_executable(hero_codescalers ${cli_sources} server/text.c server/socket_dir.c)
target_include_directories(hero_codescalers PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/include)
target_link_libraries(hero_codescalers PRIVATE hero_kvs PkgConfig::JANSSON)
set_target_properties(hero_codescalers PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
install(TARGETS hero_codescalers RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES man/hero_codescalers.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)

set(completions bash=hero_codescalers zsh=_hero_codescalers fish=hero_codescalers.fish)
set(completion_bash share/bash-completion/completions)
set(completion_zsh share/zsh/site-functions)
set(completion_fish share/fish/vendor_completions.d)
foreach(completion IN LISTS completions)
    string(REPLACE "=" ";" completion ${completion})
    list(GET completion 0 shell)
    list(GET completion 1 name)
    set(file ${CMAKE_BINARY_DIR}/completions/${shell}/${name})
    add_custom_command(OUTPUT ${file}
        COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/completions/${shell}
        COMMAND hero_codescalers completion ${shell} > ${file} DEPENDS hero_codescalers VERBATIM)
    list(APPEND completion_files ${file})
    install(FILES ${file} DESTINATION ${completion_${shell}})
endforeach()
add_custom_target(hero_codescalers_completions ALL DEPENDS ${completion_files})
