using KvNode.Native;

namespace KvNode.Raft.Wal;

/// <summary>
/// The disk has no room (ENOSPC, EDQUOT). The log is as it was before the call, and the same call may be tried again.
/// </summary>
internal sealed class DiskFullException(string message, Exception? cause = null) : IOException(message, cause)
{
    private const int Enospc = 28;
    private const int Edquot = 122;

    /// <summary>Said before trying, so that a full disk is not filled to the last byte first.</summary>
    public static DiskFullException ForSegment(long neededBytes, long freeBytes) =>
        new($"No space left on device: a log segment needs {neededBytes} bytes, {freeBytes} are left");

    /// <summary>
    /// Whether a failed create or write lacked only space. Never true of a failed sync of the log: what that lost is
    /// not known.
    /// </summary>
    public static bool Explains(IOException error) =>
        error is DiskFullException || (error is not SyncFailedException && LacksSpace(error));

    /// <summary>The same for a file that holds nothing yet, where a failed sync has lost nothing either.</summary>
    public static bool ExplainsDraft(IOException error) => error is DiskFullException || LacksSpace(error);

    private static bool LacksSpace(IOException error) => error.HResult is Enospc or Edquot;
}
