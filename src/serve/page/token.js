// Asks for the token of a service that other machines can reach.

/** Resolves to the token, or to null if nobody gives one. `isWrong`: one was given before. */
export function askToken(isWrong) {
  const [dialog, input, problem] = ["token-dialog", "token", "token-problem"].map((id) => document.getElementById(id));
  problem.hidden = !isWrong;
  input.value = "";
  dialog.showModal();
  let token = null;
  return new Promise((resolve) => {
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      token = input.value;
      dialog.close();
    };
    document.getElementById("token-cancel").onclick = () => dialog.close();
    // The event comes later than `close()` returns: not before it may the dialog be used again.
    dialog.onclose = () => resolve(token);
  });
}
