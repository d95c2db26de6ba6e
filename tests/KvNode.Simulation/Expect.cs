using System.Diagnostics.CodeAnalysis;

namespace KvNode.Simulation;

/// <summary>What the simulator found wrong.</summary>
/// <param name="check">Which check saw it: one word or two.</param>
internal sealed class ViolationException(string check, string message) : Exception(message)
{
    public string Check => check;
}

internal static class Expect
{
    /// <exception cref="ViolationException">It is not so.</exception>
    public static void That([DoesNotReturnIf(false)] bool isSo, string check, string otherwise)
    {
        if (!isSo)
        {
            throw new ViolationException(check, otherwise);
        }
    }

    [DoesNotReturn]
    public static void Fail(string check, string message) => throw new ViolationException(check, message);
}
