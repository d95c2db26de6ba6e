using System.Text;
using KvNode.Storage;

namespace KvNode.Server.Commands;

/// <summary>Glob over names in which case does not count: settings, commands.</summary>
internal static class CommandGlob
{
    /// <param name="name">Its letters are ASCII.</param>
    public static bool MatchesIgnoringCase(ReadOnlySpan<byte> pattern, string name)
    {
        var lower = pattern.ToArray();
        foreach (ref var letter in lower.AsSpan())
        {
            letter = letter is >= (byte)'A' and <= (byte)'Z' ? (byte)(letter | 0x20) : letter;
        }

        return KeyPattern.Matches(lower, Encoding.ASCII.GetBytes(name.ToLowerInvariant()));
    }
}
