namespace KvNode.Server.Hosting;

/// <summary>
/// What the program's exit code means. The numbers 64 to 78 are those of sysexits.h; scripts depend on them, so a
/// number is never given another meaning.
/// </summary>
internal static class ExitCodes
{
    /// <summary>Done, or stopped by SHUTDOWN, SIGTERM or SIGINT.</summary>
    public const int Ok = 0;

    /// <summary>EX_USAGE: a flag or a value is wrong; nothing was touched.</summary>
    public const int Usage = 64;

    /// <summary>EX_DATAERR: the log, the store or a snapshot is damaged or not ours; a file of the security settings is not sound.</summary>
    public const int BadData = 65;

    /// <summary>EX_NOINPUT: the file or directory to read is not there or cannot be read.</summary>
    public const int NoInput = 66;

    /// <summary>EX_UNAVAILABLE: a system library is missing; the message names the Debian package.</summary>
    public const int LibraryMissing = 69;

    /// <summary>EX_SOFTWARE: a defect of KvNode; the message and the stack go into a bug report.</summary>
    public const int Internal = 70;

    /// <summary>EX_OSERR: the system refused something else than a file: an address that is not this machine's, open files.</summary>
    public const int System = 71;

    /// <summary>EX_CANTCREAT: the data or log directory cannot be made.</summary>
    public const int CannotCreate = 73;

    /// <summary>EX_IOERR: reading or writing failed.</summary>
    public const int InputOutput = 74;

    /// <summary>EX_TEMPFAIL: another process has the data directory or the address; try again when it has gone.</summary>
    public const int InUse = 75;

    /// <summary>EX_NOPERM: this user may not open the directory, the file or the port.</summary>
    public const int NoPermission = 77;

    /// <summary>
    /// Not in sysexits.h: a sync to disk failed, so what was written may be gone. The node stopped before it
    /// acknowledged anything the failed sync should have covered.
    /// </summary>
    public const int SyncFailed = 79;

    /// <summary>Code, and what to tell people, in the order of the numbers; --help and the README are made of this.</summary>
    public static IReadOnlyList<(int Code, string Meaning)> Table { get; } =
    [
        (Ok, "done, or stopped cleanly (SHUTDOWN, SIGTERM, SIGINT)"),
        (Usage, "wrong flag or value; nothing was touched"),
        (BadData, "log, store or snapshot damaged, truncated or not ours"),
        (NoInput, "the file or directory to read is missing"),
        (LibraryMissing, "a system library is missing (the message names the Debian package)"),
        (Internal, "a defect in kvnode itself"),
        (System, "the system refused: an address that is not ours, too few open files"),
        (CannotCreate, "the data or log directory cannot be made"),
        (InputOutput, "reading or writing failed"),
        (InUse, "another process has the data directory or the address"),
        (NoPermission, "this user may not use the directory, file or port"),
        (SyncFailed, "a sync to disk failed: nothing it should have covered was acknowledged"),
    ];
}
