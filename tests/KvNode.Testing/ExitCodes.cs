namespace KvNode.Testing;

/// <summary>The program's exit codes as its users see them (sysexits.h, where it has one).</summary>
public static class ExitCodes
{
    public const int Success = 0;

    /// <summary>A wrong flag or word on the command line.</summary>
    public const int Usage = 64;

    /// <summary>Corrupt, truncated or oversize input.</summary>
    public const int DataError = 65;

    /// <summary>A native library is missing.</summary>
    public const int Unavailable = 69;

    /// <summary>A sync of the disk failed: what was written may be gone.</summary>
    public const int SyncFailed = 76;
}
