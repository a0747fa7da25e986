# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_writeflush_global_optspecs
    string join \n h/help V/version
end

function __fish_writeflush_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_writeflush_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_writeflush_using_subcommand
    set -l cmd (__fish_writeflush_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c writeflush -n "__fish_writeflush_needs_command" -s h -l help -d 'Print help'
complete -c writeflush -n "__fish_writeflush_needs_command" -s V -l version -d 'Print version'
complete -c writeflush -n "__fish_writeflush_needs_command" -f -a "record" -d 'Record standard input, or a file, to a durable file'
complete -c writeflush -n "__fish_writeflush_needs_command" -f -a "follow" -d 'Print a recording while it is recorded, up to what is durable'
complete -c writeflush -n "__fish_writeflush_needs_command" -f -a "recover" -d 'Cut a file to what is whole after a crash, and keep the rest beside'
complete -c writeflush -n "__fish_writeflush_needs_command" -f -a "cat" -d 'Print the messages of a framed file, one directly behind the other'
complete -c writeflush -n "__fish_writeflush_needs_command" -f -a "probe" -d 'Tell what a directory can promise: file system, device, backends, and whether fences flush'
complete -c writeflush -n "__fish_writeflush_needs_command" -f -a "compare" -d 'Compare what a durable commit costs: every backend, the system calls by hand, and std'
complete -c writeflush -n "__fish_writeflush_needs_command" -f -a "pace" -d 'A recorder\'s day: records at a fixed rate, what their hand-over costs, and what is lost'
complete -c writeflush -n "__fish_writeflush_needs_command" -f -a "gate" -d 'Tell whether a program got slower: two builds of it, compared operation by operation'
complete -c writeflush -n "__fish_writeflush_needs_command" -f -a "selftest" -d 'Prove the gate on this machine: what it says to equal programs, and to planted regressions'
complete -c writeflush -n "__fish_writeflush_needs_command" -f -a "report" -d 'Make a page with plots from result files of compare, gate, pace and probe'
complete -c writeflush -n "__fish_writeflush_needs_command" -f -a "pages" -d 'Write the manual pages and the completions below this directory'
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l input -d 'Read this file or FIFO, not standard input (-)' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l fence-every -d 'Time between two fences; 0: one, at the end' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l frame -d 'Bytes in a raw frame, which is lost as a whole' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l rate -d 'Sample frames a second, such as 44.1k [default: 48k]' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l channels -d 'Channels [default: 2]' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l bits -d 'Bits a sample: 8 (unsigned), 16, 24, 32 [default: 16]' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l append-at -d 'Cut it to this byte, or time (WAV), and go on there' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l duration -d 'End after this time (WAV: of the input)' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l split -d 'A new file after so much, between two frames: 1GiB, 10m' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l preroll -d 'Begin so long before SIGUSR2: 10s (WAV), 64MiB' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l keep -d 'How many, bytes or how long: older files go (--split)' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l min-free -d 'Less free space than this is a full disk (--split)' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l buffers -d 'Buffers; more of them ride out longer stalls' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l buffer-size -d 'Bytes in a buffer, a multiple of 4096' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l on-full -d 'No buffer has room: block, fail, drop, fill:BYTE, wait:TIME' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l on-disk-full -d 'The disk is full: fail, wait for space, delete old files' -r -f -a "fail\t''
wait\t''
delete\t''"
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l survive-kill -d 'What was taken survives kill -9 in this file, in /dev/shm' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l preallocate -d 'Reserve disk space at the start; zero:SIZE writes zeros' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l backend -d 'How operations reach the kernel' -r -f -a "auto\t''
uring\t''
sync\t''"
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l direct -d 'Whether data bypasses the page cache' -r -f -a "auto\t''
on\t''
off\t''"
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l drive -d 'Who writes: thread, caller (whoever waits), poll (spins)' -r -f -a "thread\t''
caller\t''
poll\t''"
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l metrics -d 'Keep figures for Prometheus in this file' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l reopen -d 'Open the FIFO again whenever its writers have gone'
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l followed -d 'Others may read along: writeflush follow FILE (Linux)'
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l wav -d 'Write a WAV file, whatever its name'
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l raw -d 'Write the bytes as they are, whatever the name'
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l float -d 'Samples are floating-point numbers'
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l append -d 'Go on at its end'
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l resume -d 'Mend it after a crash, and go on'
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l force -d 'Overwrite it'
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l json -d 'One JSON object on standard output at the end'
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -l json-lines -d 'A JSON object a line for whatever happens, when it does'
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -s q -l quiet -d 'No progress and no summary, only warnings and errors'
complete -c writeflush -n "__fish_writeflush_using_subcommand record" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c writeflush -n "__fish_writeflush_using_subcommand follow" -l written -d 'Up to what survives a crash of the recorder, which comes sooner'
complete -c writeflush -n "__fish_writeflush_using_subcommand follow" -s h -l help -d 'Print help'
complete -c writeflush -n "__fish_writeflush_using_subcommand recover" -l ring -d 'First bring what its recorder had taken, out of this ring file' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand recover" -l frame -d 'Bytes in a frame of a raw file' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand recover" -s h -l help -d 'Print help'
complete -c writeflush -n "__fish_writeflush_using_subcommand cat" -l lines -d 'Print a line feed behind each message'
complete -c writeflush -n "__fish_writeflush_using_subcommand cat" -s h -l help -d 'Print help'
complete -c writeflush -n "__fish_writeflush_using_subcommand probe" -l fences -d 'Fences to ask for in each check' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand probe" -l replay -d 'Look at nothing; print what this result file says' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand probe" -l json -d 'Keep the result in this file' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand probe" -l force -d 'Overwrite the result file'
complete -c writeflush -n "__fish_writeflush_using_subcommand probe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l for -d 'Time of the whole run: as much is measured as fits [default: 30m, with --quick 45s]' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l samples -d 'Commits of each subject in a cell, at least, whatever time that takes' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l records -d 'Record sizes' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l states -d 'File states: growing, reserved, written' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l committers -d 'Threads that commit at the same time' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l direct -d 'Whether subjects that can bypass the page cache do' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l stream -d 'Bytes of the streams at the end, by buffer size; 0: none [default: 128MiB]' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l subjects -d 'Only subjects whose name contains one of these words, and their floors' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l seed -d 'Decides the order of turns' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l json -d 'Keep the result in this file' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l csv -d 'Write a row for each subject and cell to this file, as comma-separated values' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l markdown -d 'Write the tables to this file, as Markdown' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l replay -d 'Measure nothing; print the tables of this result file' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l quick -d 'Less than a minute: fewer cells and floors'
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l list -d 'List the subjects and end'
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l peers -d 'Add other crates that write durably (needs `--features peers` at build time)'
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -l force -d 'Overwrite these files'
complete -c writeflush -n "__fish_writeflush_using_subcommand compare" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l rate -d 'Bytes a second, such as 200MB/s' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l record -d 'Bytes handed over at a time [default: 64KiB; --streams: 16KiB]' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l streams -d 'So many files that grow at once, in place of one' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l laps -d 'How often each subject has its turn' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l phases -d 'Their fences fall due one by one (spread), or together' -r -f -a "spread\t''
together\t''"
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l for -d 'How long each recording takes' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l fence-every -l every -d 'Time between two fences; 0 for one fence at the end' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l memory -d 'Memory of each recorder [default: 32MiB; --streams: 2MiB for each]' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l backend -d 'How writeflush reaches the kernel: auto, uring, sync' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l drive -d 'Of writeflush only these drives: thread, poll' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l file -d 'The file at the start: growing, reserved, written' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l split -d 'One more recorder of writeflush, in files of this size' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l seed -d 'Decides in which order the recordings are made [default: another one each time]' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l neighbour -d 'A thread beside it that syncs 4 KiB: with, without, both' -r -f -a "without\t''
with\t''
both\t''"
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l subjects -d 'Only recorders whose name contains one of these words' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l replay -d 'Measure nothing; print the tables of this result file' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l json -d 'Keep the result in this file' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l find-buffer -d 'Search the smallest memory that loses nothing'
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l list -d 'List the recorders and end'
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -l force -d 'Overwrite the result file'
complete -c writeflush -n "__fish_writeflush_using_subcommand pace" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l base -d 'The revision to measure against [default: the merge base with main]' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l base-path -d 'In place of a revision: a checkout, in which the program is built' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l base-program -d 'In place of a revision: the program as it was' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l candidate-path -d 'In place of the working tree: a checkout, in which the program is built' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l candidate-program -d 'In place of the working tree: the program as it is to become' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l build -d 'How a checkout becomes the program: a command for the shell, run at its top' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l program -d 'The program that it makes, seen from there' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l cache -d 'Where programs are built and kept by commit [default: the user\'s cache]' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l operations -d 'Only these operations [default: all that both know]' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l tiers -d 'Only these tiers: counts, instructions, turns, processes [default: all]' -r -f -a "counts\t'What is exact: system calls, wake-ups, allocations, bytes copied, device flushes'
instructions\t'Instructions of the thread that does the operations'
turns\t'Processes that take turns, operation by operation'
processes\t'Processes one after the other, each alone'"
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l turns -d 'Turns of each operation in a stage, about' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l limit -d 'Slower by more than so many percent is a regression of times' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l seed -d 'Decides the order of turns' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l json -d 'Keep everything that was measured in this file, and the verdict' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l markdown -d 'Write a summary for a pull request into this file' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l baseline -d 'In place of a base: the counts in this file (tier counts only)' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l write-baseline -d 'Compare nothing: keep the counts of the candidate in this file' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l replay -d 'Measure nothing; judge what this result file holds' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l ignore-steal -d 'Judge times although the host took time away (steal, proc_stat(5)): where it tells wrongly'
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l bisect -d 'After a regression, search for the commit since which it is there'
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -l force -d 'Overwrite these files'
complete -c writeflush -n "__fish_writeflush_using_subcommand gate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l nulls -d 'Timed trials with nothing planted [default: 300, with --quick 8]' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l each -d 'Timed trials of each regression [default: 40, with --quick 2]' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l counted -d 'Trials of each case that is counted, and not timed [default: 5, with --quick 1]' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l turns -d 'Turns of each operation in a stage, about [default: 3000, with --quick 300]' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l limit -d 'Slower by more than this, in percent, is looked for' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l by -d 'By what times are looked at: turns, or processes that run alone' -r -f -a "turns\t''
processes\t''"
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l operations -d 'The operations that are compared' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l seed -d 'The seed of the first trial' -r
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l program -d 'A program that knows the hook [default: it is built]' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l relinked -d 'The same program, linked in another order' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l json -d 'Keep the trials in this file, after each of them' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l plot -d 'Draw the operating curve into this file, as SVG' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l keep -d 'Keep in this folder what the gate has measured where it was wrong' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l replay -d 'Measure nothing; print what this result file says' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l quick -d 'A few of each, with a tenth of the turns'
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l neighbour -d 'Have another program sync its writes to the same disk all the time'
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l resume -d 'Go on with what that file holds: trials that it has are not tried again'
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -l force -d 'Overwrite these files'
complete -c writeflush -n "__fish_writeflush_using_subcommand selftest" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c writeflush -n "__fish_writeflush_using_subcommand report" -l html -d 'The page' -r -F
complete -c writeflush -n "__fish_writeflush_using_subcommand report" -l force -d 'Overwrite the page'
complete -c writeflush -n "__fish_writeflush_using_subcommand report" -s h -l help -d 'Print help'
complete -c writeflush -n "__fish_writeflush_using_subcommand pages" -s h -l help -d 'Print help'
