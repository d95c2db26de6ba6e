using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace KvNode.Raft;

/// <summary>
/// Facts that hold unless this program is wrong. Checked in Release too: a stop is better than a wrong answer.
/// </summary>
internal static class Invariant
{
    /// <exception cref="InvariantException">The condition is false. Nobody catches it to go on: the process
    /// ends.</exception>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Check(
        [DoesNotReturnIf(false)] bool condition,
        [CallerArgumentExpression(nameof(condition))] string fact = "")
    {
        if (!condition)
        {
            Fail(fact);
        }
    }

    [DoesNotReturn]
    private static void Fail(string fact) => throw new InvariantException($"this must hold and does not: {fact}");
}

/// <summary>This program is wrong; see the message for the fact that failed.</summary>
internal sealed class InvariantException(string message) : Exception(message);
