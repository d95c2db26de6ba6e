namespace KvNode.Testing;

/// <summary>The program's exit codes as its users see them: numbers scripts depend on, written down a second time.</summary>
public static class ExitCodes
{
    public const int Success = 0;

    /// <summary>A wrong flag or word on the command line.</summary>
    public const int Usage = 64;

    /// <summary>Corrupt, truncated or oversize input.</summary>
    public const int BadData = 65;

    /// <summary>What should be read is not there.</summary>
    public const int NoInput = 66;

    /// <summary>Reading or writing failed.</summary>
    public const int InputOutput = 74;

    /// <summary>Another process has the directory or the address.</summary>
    public const int InUse = 75;

    /// <summary>The cluster to join does not take this node.</summary>
    public const int JoinRefused = 76;

    /// <summary>The cluster has removed this node.</summary>
    public const int Removed = 78;

    /// <summary>A sync of the disk failed: what was written may be gone.</summary>
    public const int SyncFailed = 79;
}
